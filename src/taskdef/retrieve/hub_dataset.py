"""Data sets of the Hugging Face hub, by id or as a folder of the same layout, streamed row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskdef.errors import LibraryError
from taskdef.hub import find_hub_fault
from taskdef.records import PassageSource
from taskdef.retrieve.rows import Row, text_row


def hub_revision(source: PassageSource) -> str:
    """What tells whether the data set changed: the hub's commit, or a digest of a folder's names, sizes and times.

    Empty where the hub does not answer: what was loaded before may still serve, and nothing newer can be had.
    """
    assert source.hub is not None
    folder = Path(source.hub)
    if folder.is_dir():
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                status = path.stat()
                line = f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:40]
    from huggingface_hub import HfApi

    if find_hub_fault("dataset", source.hub) is not None:
        return ""
    return HfApi().dataset_info(source.hub).sha or ""


def hub_rows(source: PassageSource) -> Iterator[Row]:
    """The rows of one split, fetched as they are read. Raises LibraryError."""
    assert source.hub is not None
    import datasets  # a second and more: only for those who read a data set

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    number = 0
    try:
        rows: Any = datasets.load_dataset(source.hub, source.subset, split=source.split, streaming=True)
        names = rows.column_names
        if names is not None and source.text_field not in names:
            raise LibraryError(
                f"{source.hub}: no field {source.text_field!r} (it has {', '.join(names[:20])})",
                next_step="name the field that holds the text: `text_field` under `passages` in the task definition",
            )
        if names is not None:
            rows = rows.select_columns([source.text_field])
        for number, row in enumerate(rows, start=1):
            yield text_row(number, row.get(source.text_field), source.text_field)
    except LibraryError:
        raise
    except Exception as error:  # the library raises its own errors, Arrow's, HTTP's and plain ones
        after = f" (after row {number:,})" if number else ""
        raise LibraryError(
            f"{source.hub} ({source.split}): {_reason(source.hub, error)}{after}",
            next_step="check id, `subset` and `split`, or give a local copy: `path:` a folder of Parquet or JSON lines",
        ) from error


def _reason(name: str, error: Exception) -> str:
    fault = None if Path(name).is_dir() else find_hub_fault("dataset", name)
    if fault is not None:
        return fault.reason
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line[:300]}"
