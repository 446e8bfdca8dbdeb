"""One part of an index on disk: up to 65,536 passages, their texts, and the postings of every term in them.

    texts.bin   the UTF-8 of each passage's text, id and source, one after the other
    index.bin   a header, then the arrays below, each beginning at a multiple of eight bytes

A part is written once and never changed. Opening one costs as good as nothing, and a query touches the postings of its
own terms and the texts of its own results only: index.bin is mapped into memory; texts.bin is read where it is asked
for, since 10,000 texts scattered over mapped pages would bring half of a gigabyte with them.
"""

from __future__ import annotations

import mmap
import os
import struct
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskdef.errors import LibraryError

PASSAGES = 65_536
"""Most passages in a part: their numbers in it fit two bytes."""
TEXTS = "texts.bin"
INDEX = "index.bin"
_MAGIC = b"taskdef1"
_HEADER = struct.Struct("<8s4Q")


@dataclass(frozen=True)
class Arrays:
    """The content of index.bin. P passages, T terms in order of their bytes, N postings."""

    offsets: NDArray[np.uint32]
    """3 P + 1: where in texts.bin the text, the id and the source of each passage begin; last, where the file ends."""
    digests: NDArray[np.uint64]
    """P: of the texts, to tell equal ones."""
    lengths: NDArray[np.uint32]
    """P: terms in each passage, repetitions counted."""
    term_starts: NDArray[np.uint32]
    """T + 1: where in ``terms`` each term begins."""
    posting_starts: NDArray[np.uint32]
    """T + 1: where in ``passages`` and ``counts`` each term's postings begin."""
    passages: NDArray[np.uint16]
    """N: which passages hold the term, ascending."""
    counts: NDArray[np.uint8]
    """N: how often; 255 stands for 255 and more, where BM25 no longer grows."""
    terms: NDArray[np.uint8]
    """The UTF-8 of all terms, one after the other."""


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write index.bin. The caller flushes and renames it."""
    header = _HEADER.pack(
        _MAGIC, len(arrays.digests), len(arrays.term_starts) - 1, len(arrays.passages), len(arrays.terms)
    )
    with path.open("wb") as file:
        file.write(header)
        for array in vars(arrays).values():
            file.write(b"\0" * (-file.tell() % 8))
            array.tofile(file)


class Part:
    """A part opened for reading. Raises OSError or ValueError where its files are missing or not whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts = os.open(folder / TEXTS, os.O_RDONLY)
        weakref.finalize(self, os.close, self._texts)
        index = map_file(folder / INDEX)
        if len(index) < _HEADER.size:
            raise ValueError(f"{folder / INDEX}: cut off")
        magic, passages, terms, postings, characters = _HEADER.unpack_from(index)
        if magic != _MAGIC:
            raise ValueError(f"{folder / INDEX}: no part of an index of this version")
        shapes: dict[str, tuple[type[np.generic], int]] = {
            "offsets": (np.uint32, 3 * passages + 1),
            "digests": (np.uint64, passages),
            "lengths": (np.uint32, passages),
            "term_starts": (np.uint32, terms + 1),
            "posting_starts": (np.uint32, terms + 1),
            "passages": (np.uint16, postings),
            "counts": (np.uint8, postings),
            "terms": (np.uint8, characters),
        }
        position = _HEADER.size
        arrays: dict[str, Any] = {}
        for name, (kind, count) in shapes.items():
            position += -position % 8
            arrays[name] = np.frombuffer(index, dtype=kind, count=count, offset=position)
            position += arrays[name].nbytes
        self.arrays = Arrays(**arrays)
        if int(self.arrays.offsets[-1]) != os.fstat(self._texts).st_size:
            raise ValueError(f"{folder / TEXTS}: cut off")
        self._terms = _Terms(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays.digests)

    def postings(self, term: bytes) -> tuple[NDArray[np.uint16], NDArray[np.uint8]] | None:
        """The passages that hold the term and how often, or None where none does."""
        place = bisect_left(self._terms, term)
        if place == len(self._terms) or self._terms[place] != term:
            return None
        start, end = int(self.arrays.posting_starts[place]), int(self.arrays.posting_starts[place + 1])
        return self.arrays.passages[start:end], self.arrays.counts[start:end]

    def passage(self, number: int) -> tuple[str, str, str]:
        """Text, id and source of one passage."""
        return self.passages([number])[0]

    def passages(self, numbers: Sequence[int] | NDArray[np.int64]) -> list[tuple[str, str, str]]:
        """Text, id and source of each of these passages; in ascending order they are read the fastest.

        Raises LibraryError where the file was cut off since it was opened, OSError where it cannot be read.
        """
        bounds = self.arrays.offsets[3 * np.asarray(numbers, dtype=np.int64)[:, None] + np.arange(4)]
        return [self._contents(*of_passage) for of_passage in bounds.tolist()]

    def _contents(self, start: int, name: int, source: int, end: int) -> tuple[str, str, str]:
        content = os.pread(self._texts, end - start, start)
        if len(content) != end - start:
            raise LibraryError(
                f"{self._folder / TEXTS}: cut off while it was searched",
                next_step="run the same command again: what is damaged in an index is built anew",
            )
        name, source = name - start, source - start
        return content[:name].decode("utf-8"), content[name:source].decode("utf-8"), content[source:].decode("utf-8")


class _Terms:
    """The sorted terms as a sequence, for bisect."""

    def __init__(self, arrays: Arrays) -> None:
        self._starts = arrays.term_starts.data  # single items come out of it in half of numpy's time
        self._terms = arrays.terms.data

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, place: int) -> bytes:
        return bytes(self._terms[self._starts[place] : self._starts[place + 1]])


def map_file(path: Path) -> mmap.mmap | bytes:
    """A file's content without reading it."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
