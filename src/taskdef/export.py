"""What a run holds, written for other tools."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TextIO

from taskdef.errors import RunError
from taskdef.instruct.ledger import Ledger
from taskdef.store import RunDirectory


def write_calls(run: RunDirectory, to: Path | None) -> None:
    """Every response in the ledger as one JSON object a line, in the order of arrival, to a file or to stdout.

    Raises RunError where no call is recorded, or the file exists or cannot be written.
    """
    if not run.ledger_path.exists():
        raise RunError(f"{run.path}: no instructor call is recorded", next_step=f"taskdef show {run.quoted_path}")
    with contextlib.closing(Ledger(run.ledger_path, read_only=True)) as ledger:
        if to is None:
            _write(ledger, sys.stdout)
            return
        try:
            with to.open("x", encoding="utf-8") as file:
                count = _write(ledger, file)
        except OSError as error:
            raise RunError(
                f"{to}: cannot be written: {error.strerror}", next_step="name a file that does not exist yet: --to FILE"
            ) from None
    print(f"wrote {count:,} calls to {to}")


def _write(ledger: Ledger, file: TextIO) -> int:
    count = 0
    for count, call in enumerate(ledger.calls(), start=1):  # noqa: B007  (the last number is the count)
        file.write(json.dumps(call, ensure_ascii=False) + "\n")
    return count
