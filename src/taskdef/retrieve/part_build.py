"""From the texts of a part to its postings.

Words are cut and numbered passage by passage; stop words and stems are looked up once for each distinct word. The
postings then come from a counting sort (scipy's conversion of rows to columns), in time linear in the words.
Memory is bounded by what goes into one part, whatever the size of the library.
"""

from __future__ import annotations

import os
from array import array
from hashlib import blake2b
from mmap import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskdef.records import Passage
from taskdef.retrieve.part import INDEX, PASSAGES, TEXTS, Arrays, map_file, write_arrays
from taskdef.retrieve.tokens import Analysis, spaced_words

TEXT_BYTES = 96 * 2**20
"""A part is closed when its texts reach this, however few passages it has."""
_AT_ONCE = 8192
"""Passages whose words are in memory at once."""
OFFSETS = "offsets.bin"
"""Between writing and indexing: the offsets of the passages in texts.bin."""


class PartWriter:
    """Takes the passages of one part, in order, into its folder. They can be searched after ``index_part``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._texts = (folder / TEXTS).open("wb", buffering=2**20)
        self._offsets = array("I", [0])
        self._size = 0

    def __len__(self) -> int:
        return len(self._offsets) // 3

    @property
    def full(self) -> bool:
        return len(self) >= PASSAGES or self._size >= TEXT_BYTES

    def add(self, passage: Passage) -> None:
        text, name = passage.text.encode("utf-8", "replace"), passage.id.encode("utf-8", "replace")
        content = text + name + passage.source.encode("utf-8", "replace")
        self._texts.write(content)
        name_start = self._size + len(text)
        self._size += len(content)
        self._offsets.extend((name_start, name_start + len(name), self._size))

    def close(self) -> None:
        """Everything added is on its way to the disk; ``index_part`` flushes it."""
        self._texts.close()
        with (self.folder / OFFSETS).open("wb") as file:
            self._offsets.tofile(file)


def index_part(folder: Path, analysis: Analysis) -> dict[str, int]:
    """Build index.bin for the texts in a folder, flush both to disk, and return their sizes in bytes.

    Raises OSError where the folder is gone or the disk is full.
    """
    offsets = np.fromfile(folder / OFFSETS, dtype=np.uint32)
    arrays = build_arrays(map_file(folder / TEXTS), offsets, analysis)
    temporary = folder / f"{INDEX}.tmp"
    write_arrays(temporary, arrays)
    for path in (folder / TEXTS, temporary):
        _flush(path)
    temporary.replace(folder / INDEX)
    (folder / OFFSETS).unlink()
    _flush(folder)
    return {name: (folder / name).stat().st_size for name in (TEXTS, INDEX)}


def build_arrays(texts: bytes | mmap, offsets: NDArray[np.uint32], analysis: Analysis) -> Arrays:
    """The postings of the passages that ``offsets`` cuts out of ``texts`` (3 P + 1 of them)."""
    from scipy.sparse import csr_array

    bounds = offsets.tolist()
    vocabulary = _Vocabulary(analysis)
    digests: list[int] = []
    columns, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for start in range(0, len(bounds) - 1, 3 * _AT_ONCE):
        places = range(start, min(start + 3 * _AT_ONCE, len(bounds) - 1), 3)
        contents = [texts[bounds[i] : bounds[i + 1]] for i in places]
        digests += [int.from_bytes(blake2b(text, digest_size=8).digest(), "little") for text in contents]
        numbers, counts = vocabulary.count(contents)
        columns.append(numbers)
        lengths.append(counts)
    terms, places_of = vocabulary.sorted_terms()
    column = places_of[np.concatenate(columns)]
    length = np.concatenate(lengths)
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(length, dtype=np.int32)])
    del columns  # half of this function's memory
    table = csr_array((np.ones(len(column), np.int32), column, ends), shape=(len(digests), len(terms))).tocsc()
    table.sum_duplicates()
    return Arrays(
        offsets=offsets,
        digests=np.array(digests, dtype=np.uint64),
        lengths=length.astype(np.uint32),
        term_starts=np.cumsum([0, *map(len, terms)], dtype=np.uint32),
        posting_starts=table.indptr.astype(np.uint32),
        passages=table.indices.astype(np.uint16),
        counts=np.minimum(table.data, 255).astype(np.uint8),
        terms=np.frombuffer(b"".join(terms), dtype=np.uint8),
    )


class _Vocabulary:
    """Numbers for the terms of a part, in the order in which they turn up. Each word is looked at once."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._number_of_word: dict[bytes, int] = {}
        self._number_of_term: dict[bytes, int] = {}

    def count(self, contents: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The numbers of the texts' terms, text after text, and how many each text has.

        Arrow cuts the texts and tells equal words several times faster than Python, which would make an object of
        each.
        """
        import pyarrow
        from pyarrow import compute

        cleaned = pyarrow.array([spaced_words(text).strip() for text in contents], pyarrow.utf8())
        words = compute.ascii_split_whitespace(cleaned)
        ends = words.offsets.to_numpy()
        numbered = words.flatten().dictionary_encode()
        known = numbered.dictionary.cast(pyarrow.binary()).to_numpy(zero_copy_only=False).tolist()
        numbers = self._numbers(known)[numbered.indices.to_numpy()]
        counted = numbers >= 0
        before = np.concatenate([np.zeros(1, np.int32), np.cumsum(counted, dtype=np.int32)])
        return numbers[counted], np.diff(before[ends])

    def _numbers(self, words: list[bytes]) -> NDArray[np.int32]:
        """The number of each word's term; -1 where it has none."""
        new = [word for word in words if word not in self._number_of_word]
        for word, term in zip(new, self._analysis.terms(new), strict=True):
            number = -1 if term is None else self._number_of_term.setdefault(term, len(self._number_of_term))
            self._number_of_word[word] = number
        return np.array([self._number_of_word[word] for word in words], dtype=np.int32)

    def sorted_terms(self) -> tuple[list[bytes], NDArray[np.int32]]:
        """All terms in the order of their bytes, and for each number its term's place there."""
        terms = sorted(self._number_of_term)
        places = np.empty(len(terms), np.int32)
        places[[self._number_of_term[term] for term in terms]] = np.arange(len(terms), dtype=np.int32)
        return terms, places


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
