"""What every client's script here shares: its arguments, its prompts, and the one line of JSON it prints.

Plain standard library: these scripts run in environments of their own, where taskdef is not installed.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MODEL = "loopback"
TEMPERATURE = 0.7
MAX_TOKENS = 512


def parse_arguments(description: str, *, in_flight: int) -> argparse.Namespace:
    """``URL TEXTS CALLS WORK [--in-flight N]``: the server, a JSONL of strings, how many, a folder to write to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("url", help="http://127.0.0.1:PORT/v1")
    parser.add_argument("texts", type=Path)
    parser.add_argument("calls", type=int)
    parser.add_argument("work", type=Path)
    parser.add_argument("--in-flight", type=int, default=in_flight)
    return parser.parse_args()


def read_texts(path: Path, count: int) -> Iterator[str]:
    """The first ``count`` strings of the file, one at a time, so that reading takes no memory."""
    with path.open(encoding="utf-8") as lines:
        for line in islice(lines, count):
            yield json.loads(line)


def peak_mib() -> float:
    """This process's peak of resident memory.

    From /proc where there is one: ru_maxrss is inherited from the process that started this one.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


class Clock:
    """Wall and CPU time from its making on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._cpu_began = time.process_time()

    def report(self, *, answered: int, version: str, setting: str) -> None:
        """Print the measurement. ``answered``: calls whose answer the caller has in hand."""
        seconds = time.perf_counter() - self._began
        cpu_seconds = time.process_time() - self._cpu_began
        values = {
            "answered": answered,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "peak_mib": peak_mib(),
            "version": version,
            "setting": setting,
        }
        print(json.dumps(values), flush=True)
