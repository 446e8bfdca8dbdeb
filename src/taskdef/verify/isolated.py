"""The verifier as the stages use it: in a process of its own, with a time limit for every item.

A model's completion meets a user's regular expression or function here. Whatever comes of it (an endless match, a
crash, ``os._exit``, megabytes of text), the run goes on and the item's verdict is VERIFIER_ERROR.

The worker is a fresh interpreter on pipes, never a fork: a fork of a process that holds CUDA or thread locks hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from taskdef.errors import DefinitionError
from taskdef.records import AnswerSpec, Verdict
from taskdef.verify.judge import Judgement, failed
from taskdef.verify.vote import Tally, tally_answers

START_SECONDS = 60.0
"""Longest wait for a worker to start: seconds on a loaded machine, and SymPy has to load where it is needed."""
BATCH_ITEMS = 512
BATCH_CHARACTERS = 2_000_000
_TRANSFER_SECONDS = 60.0
"""Longest wait until a batch is through the pipe and parsed; not counted against any item."""


@dataclass(frozen=True)
class Reading:
    """What came of reading one text."""

    answer: str | None
    failure: str = ""
    """Why reading failed, where it did (time limit, crash, exception); empty where it just found nothing."""


class _WorkerDied(Exception):
    """The worker ended, or stood still longer than allowed and was killed."""


class Verifier:
    """Reads, compares and judges in a worker process. A context manager; may be shared between threads.

    Raises DefinitionError at construction where the worker cannot start: the user's function does not import.
    """

    def __init__(self, spec: AnswerSpec, timeout_seconds: float = 2.0) -> None:
        self.spec = spec
        self.timeout_seconds = timeout_seconds
        self._lock = threading.RLock()
        self._worker: _Worker | None = None
        self._closed = False
        self._worker = _Worker(spec, timeout_seconds)

    def read_all(self, texts: Sequence[str]) -> list[Reading]:
        """Strict reading of many texts, in order."""
        return [
            Reading(None, outcome.failure) if outcome.failure else Reading(outcome.value)
            for outcome in self._run([["read", text] for text in texts])
        ]

    def judge(self, items: Sequence[tuple[str, str, bool]], lenient: bool = False) -> list[Judgement]:
        """Judge completions, in order; an item is (text, gold answer, truncated)."""
        outcomes = self._run([["judge", text, gold, truncated, lenient] for text, gold, truncated in items])
        return [_judgement(outcome, lenient) for outcome in outcomes]

    def same(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        """Compare pairs of answers, in order; None where the comparison failed."""
        outcomes = self._run([["same", a, b] for a, b in pairs])
        return [None if outcome.failure else bool(outcome.value) for outcome in outcomes]

    def tally(self, outputs: Sequence[str]) -> Tally:
        """Read every output and find the most frequent answer. An output whose reading fails has no vote; answers
        whose comparison fails count as different."""
        answers = [reading.answer for reading in self.read_all(outputs)]
        return tally_answers(answers, lambda a, b: self.same([(a, b)])[0] is True)

    def close(self) -> None:
        """End the worker. The verifier cannot be used afterwards."""
        with self._lock:
            self._closed = True
            if self._worker is not None:
                self._worker.stop()
                self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, items: list[list[Any]]) -> list[_Outcome]:
        with self._lock:
            if self._closed:
                raise RuntimeError("this Verifier is closed")
            outcomes: list[_Outcome] = []
            while len(outcomes) < len(items):
                batch = _next_batch(items, len(outcomes))
                if self._worker is None:
                    self._worker = _Worker(self.spec, self.timeout_seconds)
                idle = not self._worker.alive
                try:
                    self._worker.work(batch, outcomes)
                except _WorkerDied as death:
                    self._worker.stop()
                    self._worker = None
                    if not idle:  # one that was found dead (killed from outside) has cost no item
                        outcomes.append(_Outcome(None, str(death)))
                except BaseException:  # Ctrl-C between two responses: this worker is out of step now
                    self._worker.stop()
                    self._worker = None
                    raise
            return outcomes


@dataclass(frozen=True)
class _Outcome:
    value: Any
    failure: str = ""


class _Worker:
    """One worker process and the pipes to it."""

    def __init__(self, spec: AnswerSpec, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in stop)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "taskdef.verify.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is the parent's business
                bufsize=0,
            )
        except OSError as error:
            self._errors.close()
            raise DefinitionError(f"the verifier's process cannot start: {sys.executable}: {error}") from error
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        self._pending = b""
        self._lines: list[bytes] = []
        settings = {"spec": spec.model_dump(mode="json"), "timeout_seconds": timeout_seconds}
        try:
            self._write(settings, START_SECONDS)
            greeting = self._receive(START_SECONDS)
        except _WorkerDied as death:
            reason = self._last_error_line() or str(death)
            self.stop()
            raise DefinitionError(f"the verifier's process cannot start: {reason}") from death
        except BaseException:
            self.stop()
            raise
        if "refused" in greeting:
            self.stop()
            raise DefinitionError(greeting["refused"], next_step=greeting["next_step"])

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def work(self, items: list[list[Any]], outcomes: list[_Outcome]) -> None:
        """Append one outcome an item; raises _WorkerDied at the item that killed the worker."""
        self._write(items, _TRANSFER_SECONDS)
        self._receive(_TRANSFER_SECONDS)
        for _ in items:
            response = self._receive(self._timeout_seconds)
            outcomes.append(_Outcome(response.get("value"), response.get("failure", "")))

    def stop(self) -> None:
        """Kill the worker and everything it started, and release the pipes."""
        if self._process.poll() is None:  # once reaped, its process id may be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._errors.close()

    def _write(self, message: Any, seconds: float) -> None:
        remaining = memoryview(json.dumps(message).encode("ascii") + b"\n")
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._input, selectors.EVENT_WRITE)
            while remaining:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _WorkerDied("the verifier's process takes no input")
                try:
                    remaining = remaining[os.write(self._input, remaining) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    raise _WorkerDied(self._how_it_ended()) from None

    def _receive(self, seconds: float) -> Any:
        if not self._lines:
            self._fill(seconds)
        try:
            return json.loads(self._lines.pop(0))
        except ValueError:
            raise _WorkerDied("the verifier's process broke the protocol") from None

    def _fill(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _WorkerDied(f"no result within {seconds:g} s")
                try:
                    chunk = os.read(self._output, 1 << 20)
                except BlockingIOError:
                    continue
                if not chunk:
                    raise _WorkerDied(self._how_it_ended())
                *lines, self._pending = (self._pending + chunk).split(b"\n")
                if lines:
                    self._lines = lines
                    return

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "the verifier's process closed its pipe"
        return f"the verifier's process ended with exit status {code}"

    def _last_error_line(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read(100_000).decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


def _next_batch(items: list[list[Any]], start: int) -> list[list[Any]]:
    """As many items as one line to the worker should carry; at least one."""
    end, characters = start, 0
    while end < len(items) and end - start < BATCH_ITEMS and characters < BATCH_CHARACTERS:
        characters += len(items[end][1])
        end += 1
    return items[start:end]


def _judgement(outcome: _Outcome, lenient: bool) -> Judgement:
    if outcome.failure:
        return failed(outcome.failure, lenient=lenient)
    answer, verdict, lenient_verdict, failure = outcome.value
    return Judgement(answer, Verdict(verdict), Verdict(lenient_verdict) if lenient_verdict else None, failure)
