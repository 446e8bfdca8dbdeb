"""What every instructor can do, whether it is a language model or a program."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

from taskdef.instruct.chat import ChatResponse
from taskdef.instruct.meter import Meter
from taskdef.records import Demo, DropReason, Origin, Passage, Relevance, Sample, TaskDefinition


@dataclass(frozen=True)
class Draft:
    """What an instructor wrote before anyone checked it."""

    input: str
    solution: str
    """A full output in the task's output format; its answer has not been read yet."""
    level: dict[str, int] = field(default_factory=dict)
    """Difficulty levels of a procedural generator; empty for language models."""


@dataclass(frozen=True)
class Spending:
    """What an instructor has cost in this run so far."""

    calls: int = 0
    """Requests that were sent and answered (answers taken from the ledger are not sent)."""
    responses: int = 0
    """Responses they gave: one request may give several."""
    reused: int = 0
    """Answers taken from the run's ledger."""
    from_cache: int = 0
    """Answers that another run had paid for."""
    failed_tries: int = 0
    lost: int = 0
    """Requests in flight when a process ended: the server may have billed them."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Those of the prompt tokens that the endpoint had in its cache."""
    completion_tokens: int = 0
    cost: float = 0.0
    """US dollars of the requests whose price is known."""
    unpriced: int = 0
    """Answered requests whose cost is unknown."""
    faults: dict[str, int] = field(default_factory=dict)
    """How often each fault was met (faults.FaultKind)."""

    def since(self, earlier: Spending) -> Spending:
        """What was added to ``earlier``."""
        changes = {
            part.name: getattr(self, part.name) - getattr(earlier, part.name)
            for part in fields(self)
            if part.name != "faults"
        }
        faults = {kind: count - earlier.faults.get(kind, 0) for kind, count in self.faults.items()}
        return Spending(**changes, faults={kind: count for kind, count in faults.items() if count})


class DraftFailed(Exception):
    """An instructor gave no usable draft; the caller counts it under ``reason`` and goes on."""

    def __init__(self, reason: DropReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class Instructor(Protocol):
    """One protocol for language models, programs and recordings.

    Every method is a coroutine, so that callers can have many in flight. ``index`` tells repeated calls with equal
    arguments apart: the same index gives the same answer in the same run (from the ledger, or by the same seed).
    """

    name: str
    """As given on the command line; goes into run.yaml and the report."""
    labels_by_construction: bool
    """True where every solution is right by construction, so that votes would be copies of each other."""

    async def keywords(self, definition: TaskDefinition) -> list[str]:
        """K of the paper: the domain first, then its synonyms and sub-topics."""
        ...

    async def pattern(self, definition: TaskDefinition) -> str:
        """The general form of the demos, citing none of them. Called only where there are demos."""
        ...

    async def generate(
        self,
        definition: TaskDefinition,
        *,
        passage: Passage | None,
        pattern: str,
        demos: tuple[Demo, ...],
        index: int,
        temperature: float,
    ) -> Draft:
        """Write one sample from a passage (already cut to length). Raises DraftFailed."""
        ...

    async def answer(
        self, definition: TaskDefinition, sample_input: str, *, count: int, temperature: float
    ) -> list[str]:
        """``count`` independent full outputs for an input, for the vote; fewer where calls failed for good."""
        ...

    async def rewrite(
        self,
        definition: TaskDefinition,
        sample: Sample,
        direction: Literal[Origin.HARDER, Origin.EASIER],
        *,
        pattern: str,
        temperature: float,
    ) -> Draft:
        """A harder version of a sample, or an easier one (or a sub-problem of it). Raises DraftFailed."""
        ...

    async def grade(self, definition: TaskDefinition, passage: Passage) -> Relevance | None:
        """How relevant a passage (already cut to length) is; None where no grade can be had or read."""
        ...

    async def complete(
        self,
        definition: TaskDefinition,
        purpose: str,
        prompt: str,
        *,
        schema: dict[str, Any],
        temperature: float,
        index: int = 0,
    ) -> ChatResponse:
        """One response to a prompt of the caller's own, such as a step of another synthesizer (see writing.py).

        Raises ChatFailed for this request alone; InstructorError where the instructor is a program, which answers no
        prompts.
        """
        ...

    def spending(self) -> Spending:
        """What this run's calls have come to."""
        ...

    @property
    def meter(self) -> Meter | None:
        """What the calls of this process come to by purpose, at hand at any moment; None where nothing is paid."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests under way, which ``close`` waits for because they are paid for."""
        ...

    async def close(self) -> None:
        """Take what is under way into the ledger and release connections."""
        ...
