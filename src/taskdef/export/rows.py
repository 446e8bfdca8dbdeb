"""Rows on their way to a file: what they are, and what was left out of them."""

from __future__ import annotations

import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskdef.errors import RunError

if TYPE_CHECKING:
    import pyarrow


@dataclass
class Rows:
    """Rows of one form."""

    rows: Iterable[Mapping[str, Any]]
    """Values are those of JSON."""
    noun: str
    """What a row is, in the plural."""
    left_out: Counter[str] = field(default_factory=Counter)
    """What has no row, by reason."""
    schema: pyarrow.Schema | None = None
    """The columns' types in Parquet, where they must not depend on the values."""


def write_rows(rows: Rows, out: Path | None) -> None:
    """Write them to ``out``, which must not exist: Parquet where its name ends so, else one JSON object a line.

    Without ``out`` they go to stdout, as JSON. Prints their number and what was left out. Raises RunError where the
    file exists or cannot be written.
    """
    if out is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as JSON is, whatever the terminal's encoding lacks
        _write_lines(rows, sys.stdout.write)
        report = ""
    elif out.suffix == ".parquet":
        report = f"wrote {write_parquet(rows, out):,} {rows.noun} to {out}"
    else:
        try:
            with out.open("x", encoding="utf-8") as file:
                count = _write_lines(rows, file.write)
        except OSError as error:
            raise unwritable(out, error) from None
        report = f"wrote {count:,} {rows.noun} to {out}"
    reasons = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in rows.left_out.items() if count)
    if report:
        print(report)
    if reasons:
        print(f"left out: {reasons}", file=sys.stdout if out is not None else sys.stderr)


def write_parquet(rows: Rows, out: Path) -> int:
    """Write them as one Parquet file, which appears when whole; gives their number. Raises RunError."""
    import pyarrow
    import pyarrow.parquet

    if out.exists():
        raise unwritable(out, FileExistsError(17, "File exists"))
    table = pyarrow.Table.from_pylist([dict(row) for row in rows.rows], schema=rows.schema)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        pyarrow.parquet.write_table(table, temporary)
        temporary.replace(out)
    except OSError as error:
        raise unwritable(out, error) from None
    finally:
        temporary.unlink(missing_ok=True)
    return int(table.num_rows)


def unwritable(out: Path, error: OSError) -> RunError:
    """The fault where ``out`` cannot be written."""
    reason = error.strerror or str(error).splitlines()[0]
    return RunError(f"{out}: cannot be written: {reason}", next_step="name a file or folder that does not exist yet")


def _write_lines(rows: Rows, write: Any) -> int:
    count = 0
    for count, row in enumerate(rows.rows, start=1):  # noqa: B007  (the last number is the count)
        write(json.dumps(row, ensure_ascii=False) + "\n")
    return count
