"""Passages by meaning: cosine similarity of embeddings, over the same passages as the index (extra ``dense``).

Vectors are kept in ``vectors`` of the cache folder ($TASKDEF_CACHE), a folder for each model, a file for each 4,096
passages of a part of an index, named by the texts they stand for: a part never changes, so passages are embedded once,
after a change of the library only those of new parts, and a kill costs one file. A folder there may be removed at any
time; it is then made again. Search looks at every vector, in flat memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskdef.errors import LibraryError
from taskdef.policy.builtin import cache_folder
from taskdef.progress import Progress
from taskdef.retrieve.index import Index
from taskdef.retrieve.language_models import Embedder
from taskdef.retrieve.part import Part
from taskdef.retrieve.ranking import Hit

_IN_A_FILE = 4096
_AT_ONCE = 128
"""Passages that are handed to the model, sorted by length there, before progress is told."""


@dataclass(frozen=True)
class _Stretch:
    """Neighbouring passages of one part, whose vectors lie in one file."""

    part: int
    """Its number in the index."""
    content: Part
    start: int
    end: int

    @property
    def file_name(self) -> str:
        texts = self.content.arrays.digests[self.start : self.end]
        return f"{hashlib.blake2b(texts.tobytes(), digest_size=16).hexdigest()}.npy"


class DenseIndex:
    """The vectors of an index's passages."""

    def __init__(self, index: Index, embedder: Embedder, progress: Progress, cache: Path | None = None) -> None:
        """Embed what has no vectors yet. Raises LibraryError where they cannot be written."""
        self._index, self._embedder = index, embedder
        self._folder = (cache or cache_folder()) / "vectors" / embedder.digest
        self._stretches = [
            _Stretch(number, part, start, min(start + _IN_A_FILE, len(part)))
            for number, part in enumerate(index.contents)
            for start in range(0, len(part), _IN_A_FILE)
        ]
        missing = [stretch for stretch in self._stretches if not self._is_kept(stretch)]
        if missing:
            progress.start("embed passages", total=sum(stretch.end - stretch.start for stretch in missing))
            for stretch in missing:
                _write(self._folder / stretch.file_name, _embed(stretch, embedder, progress))
            progress.finish()

    def rankings(self, queries: Sequence[str], count: int) -> list[list[Hit]]:
        """For each query the ``count`` passages with the highest similarity, best first.

        A library's weight multiplies its passages' similarities. Passages whose similarity is not above 0 are left
        out, as BM25 leaves out those that share no word with the query. Raises LibraryError where vectors were removed
        in the meantime.
        """
        if not queries:
            return []
        asked = self._embedder.embed_queries(queries).T
        return self._index.highest(self._similarities(asked), len(queries), count)

    def _similarities(self, asked: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Every part's number with its passages' cosines (passages x queries), times its library's weight."""
        weights = self._index.weights
        keys = np.empty((0, asked.shape[1]))
        for stretch in self._stretches:
            if stretch.start == 0:
                keys = np.empty((len(stretch.content), asked.shape[1]))
            keys[stretch.start : stretch.end] = self._vectors(stretch).astype(np.float32) @ asked
            if stretch.end == len(stretch.content):
                yield stretch.part, keys * weights[stretch.part]

    def _vectors(self, stretch: _Stretch) -> NDArray[np.float16]:
        file = self._folder / stretch.file_name
        try:
            vectors: NDArray[np.float16] = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise LibraryError(
                f"{file}: the vectors that were there cannot be read: {error}",
                next_step="run the same command again: what is missing is made again",
            ) from error
        return vectors

    def _is_kept(self, stretch: _Stretch) -> bool:
        """Whether the vectors are there, whole."""
        try:
            vectors = np.load(self._folder / stretch.file_name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return len(vectors) == stretch.end - stretch.start


def _embed(stretch: _Stretch, embedder: Embedder, progress: Progress) -> NDArray[np.float16]:
    """In half precision: an error of about 0.0002 in a cosine, for half of the space."""
    batches = []
    for start in range(stretch.start, stretch.end, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, stretch.end))
        texts = [text for text, _, _ in stretch.content.passages(numbers)]
        batches.append(embedder.embed_texts(texts).astype(np.float16))
        progress.advance(len(texts))
    return np.concatenate(batches)


def _write(file: Path, vectors: NDArray[np.float16]) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as output:
            np.save(output, vectors, allow_pickle=False)
            output.flush()
            os.fsync(output.fileno())
        temporary.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):  # the disk that is full, or the folder that is none, is what is told
            temporary.unlink()
        raise LibraryError(
            f"{file.parent}: vectors cannot be kept there: {error.strerror or error}",
            next_step="free space there, or set TASKDEF_CACHE to a folder on another disk",
        ) from error
