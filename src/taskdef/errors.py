"""The errors that taskdef raises on purpose.

    TaskdefError                 something the user can act on; the CLI prints it without a traceback, exit code 2
    ├── DefinitionError          task.yaml, a demo or a pack is wrong
    ├── ConfigError              a setting is unknown, mistyped, or differs from the run's own
    ├── LibraryError             the passages cannot be read, or there are none
    ├── TestSetError             the test rows cannot be read, or their gold answers fail their own verifier
    ├── InstructorError          the instructor cannot be reached, refuses, or has no recorded answer
    │   └── BudgetReached        the cap on spending is reached: everything paid for is kept
    ├── BaseModelError           the base model cannot be found, loaded or sampled
    ├── OutOfMemory              sampling or training does not fit into memory: says what would
    ├── RunError                 the run directory is missing, damaged, or not ready for the stage asked for
    └── Stopped                  Ctrl-C: everything done so far is on disk

Anything else that escapes is a bug and keeps its traceback. An error is attributed once, at the boundary where
it was crossed; every message gives the value, the reason and the next command.
"""

from __future__ import annotations


class TaskdefError(Exception):
    """Base of every error whose cause is outside taskdef.

    ``message`` says what is wrong, with the value and the reason. ``next_step`` says what to do about it; it is
    printed on a line of its own.
    """

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message if self.next_step is None else f"{self.message}\n  next: {self.next_step}"


class DefinitionError(TaskdefError):
    """The task definition (or something it names) is wrong."""


class ConfigError(TaskdefError):
    """A setting is unknown, has the wrong type, or contradicts the run it is given to."""


class LibraryError(TaskdefError):
    """The passage library cannot be read or holds nothing."""


class TestSetError(TaskdefError):
    """The test set cannot be read, or a row's gold answer fails its own verifier."""

    __test__ = False  # its name starts with "Test"; pytest must not collect it


class InstructorError(TaskdefError):
    """The instructor cannot be used: no key, no route, a refusal, a script without the answer."""


class BudgetReached(InstructorError):
    """The next call does not fit under the cap any more."""


class BaseModelError(TaskdefError):
    """The base model cannot be found, loaded or sampled."""


class OutOfMemory(TaskdefError):
    """Sampling or training does not fit into memory.

    ``settings`` are the sizes that would fit, by dotted key; empty where only a smaller model or more memory would.
    """

    def __init__(self, message: str, *, settings: dict[str, object], next_step: str | None = None) -> None:
        self.settings = settings
        changes = " ".join(f"--set {key}={value}" for key, value in settings.items())
        super().__init__(
            message, next_step=next_step or changes or "a smaller base_model, or a machine with more memory"
        )


class RunError(TaskdefError):
    """The run directory is missing, damaged or not ready for the stage asked for."""


class Stopped(TaskdefError):
    """The user stopped the run; what is finished is on disk."""
