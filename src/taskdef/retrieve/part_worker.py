"""Indexing parts in processes of their own, beside the one that reads the library.

A worker is a fresh interpreter on pipes: a line of JSON in for each part, a line out. It ends when its input ends, so
it does not outlive a parent that was killed by more than the part it is at.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taskdef.errors import LibraryError
from taskdef.retrieve.part_build import index_part
from taskdef.retrieve.tokens import Analysis

MOST_WORKERS = 3
"""More would mostly wait for the process that reads; each takes up to about 300 MB."""


class PartIndexer:
    """Indexes parts, several at a time. A context manager."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        count = min(MOST_WORKERS, len(os.sched_getaffinity(0)))
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="taskdef-index")
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._workers: list[subprocess.Popen[bytes]] = []
        self.capacity = 2 * count
        """Parts that may wait or be worked on before the reader should wait."""

    def submit(self, folder: Path) -> Future[dict[str, int]]:
        """Index the part in ``folder`` soon; the future gives its files' sizes, or LibraryError."""
        return self._threads.submit(self._index, folder)

    def _index(self, folder: Path) -> dict[str, int]:
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = self._start()
        assert worker.stdin is not None and worker.stdout is not None  # noqa: PT018
        try:
            worker.stdin.write(json.dumps({"folder": str(folder)}).encode() + b"\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        except OSError:
            answer = b""
        if not answer:
            raise LibraryError(
                f"{folder}: the process that indexes it ended with status {worker.wait()}",
                next_step="free memory (about 300 MB for each of up to three processes), then run the same command: "
                "it goes on from the parts that are done",
            )
        result: dict[str, Any] = json.loads(answer)
        if "error" in result:
            raise LibraryError(
                f"{folder}: cannot be written: {result['error']}",
                next_step="free space there or set TASKDEF_CACHE to another disk, then run the same command",
            )
        self._idle.put(worker)
        return {str(name): int(size) for name, size in result["sizes"].items()}

    def _start(self) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "taskdef.retrieve.part_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is the parent's business
        )
        self._workers.append(worker)
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(self._analysis.to_json()).encode() + b"\n")
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for worker in self._workers:
                worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:  # what was buffered for a worker that has been killed
                        continue
            worker.wait()


def main() -> None:
    """Read the analysis, then folders, one a line; answer each with sizes or an error."""
    lines = iter(sys.stdin.buffer.readline, b"")
    settings = json.loads(next(lines))
    analysis = Analysis(settings["language"], frozenset(settings["stop_words"]))
    for line in lines:
        try:
            answer: dict[str, Any] = {"sizes": index_part(Path(json.loads(line)["folder"]), analysis)}
        except OSError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
