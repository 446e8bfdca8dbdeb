"""Documents converted in a process of their own, within stated limits on size, memory, time and text."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taskdef.errors import LibraryError
from taskdef.retrieve.passages import Block
from taskdef.retrieve.skips import FileSkipped, SkipReason

INSTALL = "pip install 'taskdef[documents]'"
_START_SECONDS = 600.0
"""Far beyond what a busy machine takes: a process that cannot start ends at once, and is not waited for."""
_WAITING = 10
"""How many times its processor time a document may take where others use the processor, or a network disk is slow."""
_LONGEST_SERVICE = 200
"""Documents after which a worker is replaced, so that what its libraries keep does not add up."""


@dataclass(frozen=True)
class DocumentLimits:
    """What one document may cost."""

    file_bytes: int = 100 << 20
    """A larger file is not opened."""
    unpacked_bytes: int = 64 << 20
    """A .docx whose parts, pictures not counted, unpack to more is not unpacked."""
    memory_bytes: int = 1 << 30
    """Address space of the converting process (RLIMIT_AS)."""
    text_bytes: int = 128 << 20
    """The text that may come of it, as JSON."""
    seconds: float = 60.0
    """Processor time: what is read of a library must not depend on what else the machine does. Ten times as much by the
    clock, for a file that never comes."""


def have_converters() -> bool:
    """Whether the extra ``documents`` is installed."""
    return all(importlib.util.find_spec(name) for name in ("mammoth", "pypdfium2"))


class DocumentConverter:
    """Converts documents one after the other. A context manager; the process starts with the first document."""

    def __init__(self, limits: DocumentLimits | None = None) -> None:
        self.limits = limits or DocumentLimits()
        self._worker: _Worker | None = None

    def blocks(self, path: Path, kind: str, notes: list[tuple[str, str]]) -> Iterator[Block]:
        """The paragraphs of a document of kind ``pdf``, ``docx`` or ``html``; places that cannot be read go to notes.

        A document is converted to its end before the first block comes. Raises FileSkipped where it gives nothing,
        LibraryError where no process can be started for it.
        """
        size = path.stat().st_size
        if not size:
            raise FileSkipped(SkipReason.EMPTY, "empty")
        if size > self.limits.file_bytes:
            raise FileSkipped(SkipReason.TOO_LARGE, f"{size:,} bytes, more than {self.limits.file_bytes:,}")
        with tempfile.TemporaryDirectory(prefix="taskdef-") as folder:
            output = Path(folder) / "blocks"
            request = {"path": str(path.absolute()), "kind": kind, "output": str(output)}
            response = self._convert(request)
            if "failure" in response:
                raise FileSkipped(SkipReason(response["failure"]), response["why"])
            notes += [(place, why) for place, why in response["notes"]]
            with output.open(encoding="ascii") as lines:
                for line in lines:
                    text, place, heading = json.loads(line)
                    yield Block(text, place, heading)

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _convert(self, request: dict[str, str]) -> dict[str, Any]:
        if self._worker is None or self._worker.served >= _LONGEST_SERVICE:
            self.close()
            self._worker = _Worker(self.limits)
        used = self._worker.served > 0
        response = self._worker.convert(request)
        if response.get("failure") in (SkipReason.TOO_MUCH_MEMORY, SkipReason.CRASHED) and used:
            # Documents before it may have left something behind; the verdict is that of a fresh process.
            self.close()
            self._worker = _Worker(self.limits)
            response = self._worker.convert(request)
        if "failure" in response and response["failure"] != SkipReason.BROKEN:
            self.close()
        return response


class _Worker:
    """One converting process."""

    def __init__(self, limits: DocumentLimits) -> None:
        self.served = 0
        self._seconds = limits.seconds
        self._process = subprocess.Popen(
            [sys.executable, "-m", "taskdef.retrieve.document_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._send(asdict(limits) | {"converters": have_converters()})
        if self._read(_START_SECONDS) != "ready\n":
            self.stop()
            raise LibraryError(
                "the process that converts PDF, Word and HTML files does not start",
                next_step="free memory, then run the same command: it goes on from what is done",
            )

    def convert(self, request: dict[str, str]) -> dict[str, Any]:
        self.served += 1
        try:
            self._send(request)
        except BrokenPipeError:
            return self._ended()
        line = self._read(self._seconds * _WAITING)
        if line is None:
            self.stop()
            return self._too_slow()
        if not line.endswith("\n"):
            return self._ended()
        response: dict[str, Any] = json.loads(line)
        return response

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _ended(self) -> dict[str, Any]:
        code = self._process.wait()
        if code == -signal.SIGPROF:
            return self._too_slow()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return {"failure": SkipReason.CRASHED, "why": f"its conversion ended its process ({how})"}

    def _too_slow(self) -> dict[str, Any]:
        return {"failure": SkipReason.TOO_SLOW, "why": f"its conversion takes longer than {self._seconds:g} s"}

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _read(self, seconds: float) -> str | None:
        """The next line; empty where the process has ended, None where it stays silent for too long."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        return self._process.stdout.readline()
