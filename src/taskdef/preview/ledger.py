"""The one file that previews of a run leave: a ledger beside the run's directory, one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from taskdef.errors import RunError
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.totals import LedgerTotals
from taskdef.store import RunDirectory


@contextlib.contextmanager
def preview_ledger(run: RunDirectory) -> Iterator[Path | None]:
    """The ledger of this run's previews, kept from other processes meanwhile; None where nothing will be recorded.

    Raises RunError where another preview is at work on it.
    """
    if run.config.instructor.startswith("procedural:"):
        yield None
        return
    path = run.preview_path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Locked itself, since a file beside it would be left behind. SQLite's own locks are of another kind (POSIX), and
    # end when a descriptor of the file is closed: that happens here, after SQLite has closed it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{path}: another preview is at work on it", next_step="wait until it ends, or take another --name"
            ) from None
        yield path
    finally:
        if os.fstat(descriptor).st_size == 0:  # it ended before anything was asked
            path.unlink(missing_ok=True)
        os.close(descriptor)


def totals_of(path: Path | None) -> LedgerTotals | None:
    """What a ledger comes to; None where there is no path."""
    if path is None:
        return None
    if path.stat().st_size == 0:
        return LedgerTotals()
    with contextlib.closing(Ledger(path)) as ledger:
        return ledger.totals()


def finish_ledger(path: Path | None) -> tuple[LedgerTotals | None, list[tuple[float, float]]]:
    """What the previews came to, and (start, seconds) of every answered call; the ledger is left as one file."""
    if path is None:
        return None, []
    with contextlib.closing(Ledger(path)) as ledger:
        totals, exchanges = ledger.totals(), ledger.exchanges()
        ledger.leave_one_file()
    return totals, exchanges
