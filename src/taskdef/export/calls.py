"""Every answer of the instructor with its prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from taskdef.errors import RunError
from taskdef.export.rows import Rows
from taskdef.instruct.ledger import Ledger
from taskdef.store import RunDirectory


def call_rows(run: RunDirectory) -> Rows:
    """Every response in the ledger, in the order of arrival. Raises RunError where no call is recorded."""
    if not run.ledger_path.exists():
        raise RunError(f"{run.path}: no instructor call is recorded", next_step=f"taskdef show {run.quoted_path}")
    return Rows(_calls(run), "calls")


def _calls(run: RunDirectory) -> Iterator[dict[str, Any]]:
    with contextlib.closing(Ledger(run.ledger_path, read_only=True)) as ledger:
        yield from ledger.calls()
