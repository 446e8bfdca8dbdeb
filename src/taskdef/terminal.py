"""What a person at a terminal sees while work goes on, and when it ends badly.

Progress goes to stderr, results to stdout. On a terminal there is one moving bar with rate and time left; into a
pipe or a file go plain lines, so that a log can be read afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from taskdef.errors import RunError, Stopped, TaskdefError
from taskdef.readable import duration
from taskdef.stopping import stop_gently

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

FAULT_EXIT = 2
"""A fault that the user can act on."""
STOPPED_EXIT = 130
"""Ctrl-C, as shells count it (128 + SIGINT)."""

SECONDS_BETWEEN_LINES = 10.0
SHARE_BETWEEN_LINES = 0.1
_DISK_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "database or disk is full")


class LineProgress:
    """Plain lines: one at the start, one about every 10 s or 10 % (never two within a second), one at the end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._label: str | None = None
        self._total = self._done = self._done_before = self._shown = 0
        self._started = self._shown_at = 0.0
        self._note = ""

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.finish()
        self._label, self._total, self._note = label, total, ""
        self._done = self._done_before = self._shown = done
        self._started = self._shown_at = self._clock()
        self.line(f"{label}: {done}/{total}" + (" (done earlier)" if done else ""))

    def advance(self, units: int = 1, note: str = "") -> None:
        self._done += units
        self._note = note or self._note
        now = self._clock()
        waited = now - self._shown_at
        share = (self._done - self._shown) / self._total if self._total else 0.0
        if 0 < self._total <= self._done:
            return  # finish() says it
        if waited >= SECONDS_BETWEEN_LINES or (share >= SHARE_BETWEEN_LINES and waited >= 1):
            self._shown, self._shown_at = self._done, now
            self._say(now, self._time_left(now))

    def finish(self) -> None:
        if self._label is not None:
            now = self._clock()
            self._say(now, f"took {duration(now - self._started)}")
            self._label = None

    def line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _time_left(self, now: float) -> str:
        fresh = self._done - self._done_before
        if fresh <= 0:
            return ""
        return f"{duration((now - self._started) / fresh * max(0, self._total - self._done))} left"

    def _say(self, now: float, closing: str) -> None:
        percent = f" ({self._done / self._total:.0%})" if self._total else ""
        parts = [rate(self._done - self._done_before, now - self._started), closing, self._note]
        self.line(", ".join([f"{self._label}: {self._done}/{self._total}{percent}", *filter(None, parts)]))


class TerminalProgress:
    """One rich bar at a time, with rate, time left and the note; finished bars stay on the screen."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def start(self, label: str, total: int, done: int = 0) -> None:
        from rich import progress

        self.finish()
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}", markup=False),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            # Sampling a model calls back every few seconds at best; a long window keeps rate and time left steady.
            speed_estimate_period=120,
        )
        self._bar.start()
        self._task = self._bar.add_task(label, total=total, completed=done, rate="", note="")

    def advance(self, units: int = 1, note: str = "") -> None:
        if self._bar is None or self._task is None:
            return
        fields: dict[str, Any] = {"note": note} if note else {}
        self._bar.update(self._task, advance=units)
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, rate=rate(speed, 1.0) if speed else "", **fields)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_on_stderr() -> Iterator[LineProgress | TerminalProgress]:
    """The progress that fits stderr; closed on the way out, so that an error is not printed into a live bar."""
    on_terminal = sys.stderr.isatty()
    if not on_terminal:  # the libraries' own bars would fill a log with carriage returns
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    progress = TerminalProgress() if on_terminal else LineProgress(sys.stderr)
    try:
        yield progress
    finally:
        progress.finish()


@contextlib.contextmanager
def going_on_with(path: Path, *, verb: str = "run", file: str = "run.yaml") -> Iterator[None]:
    """Around work on the run at ``path``: Ctrl-C (and SIGTERM) and a bad disk become errors that say how to go on.

    ``verb`` goes on with it once ``file`` stands there.

    Raises Stopped for Ctrl-C; RunError for a full disk, and for a file of the run that cannot be read or written.
    """
    asked = False

    def onward() -> str:
        # Before run.yaml stands, the directory is no run yet, and only the first command knows what it was to be.
        begun = (path / file).exists()
        return f"go on with: taskdef {verb} {shlex.quote(str(path))}" if begun else "repeat the same command"

    def stop(*_: object) -> None:
        nonlocal asked
        if asked:  # cleaning up hangs; a run can be cut off at any moment
            os.write(2, f"stopped at once; {onward()}\n".encode())
            os._exit(STOPPED_EXIT)
        asked = True
        if not stop_gently():
            raise KeyboardInterrupt

    # A handler of our own, also for SIGINT: asyncio would replace Python's by one that waits for the next await, and
    # a model that is being sampled awaits nothing for minutes.
    watched = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    earlier = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; what is finished is on disk", next_step=onward()) from None
    except TaskdefError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise RunError(
                f"{path}: the disk is full; what is finished is kept: {error}",
                next_step=f"free some space, then {onward()}",
            ) from error
        if isinstance(error, OSError) and _concerns(error, path):
            raise RunError(
                f"{error.filename}: {error.strerror}",
                next_step=f"see who owns {path} and what is in it, then {onward()}",
            ) from error
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def is_disk_full(error: BaseException) -> bool:
    """Whether this error (of Python, SQLite or safetensors) says that the disk, or the user's share of it, is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(text in str(error) for text in _DISK_FULL_TEXTS)


def print_error(error: TaskdefError) -> int:
    """Print a user fault on stderr, without a traceback, and give the exit code."""
    from rich.console import Console
    from rich.text import Text

    stopped = isinstance(error, Stopped)
    text = Text() if stopped else Text("error: ", style="bold red")
    text.append(error.message)
    if error.next_step is not None:
        text.append("\n").append("next: ", style="bold").append(error.next_step)
    # No wrapping: a path or a command cut in two cannot be copied.
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
    return STOPPED_EXIT if stopped else FAULT_EXIT


def tolerate_any_encoding() -> None:
    """Print what the terminal's encoding lacks as ``?`` instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def rate(units: float, seconds: float) -> str:
    """Units a second, or seconds a unit where that reads better; empty before anything is done."""
    if units <= 0 or seconds <= 0:
        return ""
    if units >= seconds:
        speed = units / seconds
        return f"{speed:,.0f}/s" if speed >= 100 else f"{speed:.1f}/s"
    return f"{seconds / units:.1f} s each"


def _concerns(error: OSError, path: Path) -> bool:
    """Whether the file that failed is the run's folder, inside it, or one of the folders it should be made in."""
    if not isinstance(error.filename, str):
        return False
    failed, run = Path(error.filename).absolute(), path.absolute()
    return failed.is_relative_to(run) or run.is_relative_to(failed)
