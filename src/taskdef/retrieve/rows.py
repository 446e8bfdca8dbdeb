"""Rows with a text in one of their fields: JSON lines, Parquet and Arrow files, read as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from taskdef.retrieve.encodings import detect_encoding
from taskdef.retrieve.skips import FileSkipped, SkipReason

ROW_BYTES = 16 << 20
"""A longer line, or a longer text in a row, is skipped."""

_BATCH_ROWS = 64
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Row:
    """One row: its number from 1, and a text or why it has none."""

    number: int
    text: str = ""
    reason: SkipReason | None = None
    why: str = ""


def json_lines(path: Path, field: str) -> Iterator[Row]:
    """The rows of a file of JSON lines; blank lines give none. Raises FileSkipped, OSError."""
    encoding = detect_encoding(path)
    if encoding in ("utf-16", "utf-32"):
        raise FileSkipped(SkipReason.UNKNOWN_ENCODING, f"{encoding.upper()}; save JSON lines as UTF-8")
    if encoding == "utf-8-sig":
        encoding = "utf-8"
    with path.open("rb") as file:
        for number, line in _lines(file):
            if line is None:
                why = f"longer than {ROW_BYTES >> 20} MiB"
                yield Row(number, reason=SkipReason.LINE_TOO_LONG, why=why)
            elif line.strip():
                yield _json_row(number, line.removeprefix(b"\xef\xbb\xbf"), encoding, field)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Number and content of every line; None for one that is too long, which never comes into memory whole."""
    number = 0
    while line := file.readline(ROW_BYTES + 1):
        number += 1
        if len(line) <= ROW_BYTES:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_BUFFER)
        yield number, None


def _json_row(number: int, line: bytes, encoding: str, field: str) -> Row:
    try:
        row = json.loads(line.decode(encoding))
    except UnicodeDecodeError:
        return Row(number, reason=SkipReason.NOT_UTF8, why=f"not {encoding.upper()}")
    except (ValueError, RecursionError):
        return Row(number, reason=SkipReason.NOT_JSON, why="not JSON")
    if isinstance(row, dict) and field not in row:
        return Row(number, reason=SkipReason.NO_FIELD, why=_no_field(field, list(row)))
    return text_row(number, row.get(field) if isinstance(row, dict) else None, field)


def text_row(number: int, value: Any, field: str) -> Row:
    """A row from the value of its text field."""
    if not isinstance(value, str) or not value.strip():
        return Row(number, reason=SkipReason.NO_TEXT, why=f"{field!r} holds no text")
    if len(value) > ROW_BYTES:
        return Row(number, reason=SkipReason.LINE_TOO_LONG, why=f"longer than {ROW_BYTES >> 20} Mi characters")
    return Row(number, value)


def _no_field(field: str, names: list[Any]) -> str:
    return f"no field {field!r} (it has {', '.join(map(str, names[:8])) or 'none'})"


def parquet_rows(path: Path, field: str) -> Iterator[Row]:
    """The rows of a Parquet file, a few at a time. Raises FileSkipped, OSError."""
    import pyarrow
    import pyarrow.parquet

    try:
        # Without pre-buffering, pages are read as they are needed; with it, a whole row group lies in memory.
        file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
        with file:
            _need_field(file.schema_arrow, field)
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[field], use_threads=False):
                for value in batch.column(0):
                    number += 1
                    yield text_row(number, value.as_py(), field)
    except (pyarrow.ArrowException, OSError, MemoryError) as error:
        raise _broken("Parquet", error) from None


def arrow_rows(path: Path, field: str) -> Iterator[Row]:
    """The rows of an Arrow stream, as `datasets` saves them. Raises FileSkipped, OSError."""
    import pyarrow
    import pyarrow.ipc

    try:
        with path.open("rb") as source, pyarrow.ipc.open_stream(source) as reader:
            _need_field(reader.schema, field)
            column = reader.schema.get_field_index(field)
            number = 0
            for batch in reader:
                for value in batch.column(column):
                    number += 1
                    yield text_row(number, value.as_py(), field)
    except (pyarrow.ArrowException, OSError, MemoryError) as error:
        raise _broken("Arrow", error) from None


def _need_field(schema: Any, field: str) -> None:
    if schema.get_field_index(field) < 0:
        raise FileSkipped(SkipReason.NO_FIELD, _no_field(field, schema.names))


def _broken(kind: str, error: Exception) -> Exception:
    """The system's own errors stay what they are; Arrow's have no number, also where it calls them OSError."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return FileSkipped(SkipReason.BROKEN, f"no {kind} file that can be read: {first_line[:200]}")
