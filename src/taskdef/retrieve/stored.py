"""The indexes of a task's libraries: where they are kept, brought up to date, and opened.

An index is kept for each library and each way of reading it, in ``indexes`` of the cache folder ($TASKDEF_CACHE), so
another run, and another task, finds it again. A folder there may be removed at any time; it is then built again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskdef.errors import LibraryError
from taskdef.policy.builtin import cache_folder
from taskdef.progress import Progress
from taskdef.records import Passage, PassageSource
from taskdef.retrieve.documents import DocumentConverter
from taskdef.retrieve.files import LibraryFile, library_files
from taskdef.retrieve.index import Index
from taskdef.retrieve.index_build import locked, update_index
from taskdef.retrieve.index_state import IndexState
from taskdef.retrieve.library import iter_file_passages
from taskdef.retrieve.open_library import OpenLibrary, open_library
from taskdef.retrieve.skips import SkipLog, SkipReason
from taskdef.retrieve.tokens import build_analysis

READING = 1
"""Of the code that cuts files into passages: where it changes what comes of a file, indexes are built again."""


@dataclass(frozen=True)
class SearchedLibrary:
    """What one source came to."""

    source: str
    passages: int
    skipped: SkipLog


def open_libraries(
    sources: Sequence[PassageSource], progress: Progress, cache: Path | None = None
) -> tuple[Index, list[SearchedLibrary]]:
    """Bring the index of every library up to date and open them all.

    Raises LibraryError where a library does not exist or an index cannot be written, ConfigError for a language
    without a stemmer.
    """
    root = (cache or cache_folder()) / "indexes"
    opened, libraries = [], []
    for source in sources:
        library, searched = _open_one(source, root, progress)
        opened.append(library)
        libraries.append(searched)
    return Index.over(opened), libraries


def index_folder(source: PassageSource, root: Path) -> Path:
    """Where a library's index is kept: named after the library, told apart by all that decides its passages."""
    place = source.hub or str(source.path and source.path.resolve())
    settings = source.model_dump(mode="json", exclude={"path", "weight"})
    digest = hashlib.sha256(json.dumps([READING, place, settings], sort_keys=True).encode()).hexdigest()
    return root / f"{re.sub(r'[^A-Za-z0-9]+', '-', Path(place).name)[:40].strip('-')}-{digest[:16]}"


def _open_one(source: PassageSource, root: Path, progress: Progress) -> tuple[OpenLibrary, SearchedLibrary]:
    folder = index_folder(source, root)
    analysis = build_analysis(source.language)
    listing = SkipLog()
    with DocumentConverter() as converter:
        files = [_IndexedFile(file, source, converter) for file in library_files(source, listing)]
        try:
            with locked(folder, progress):
                state = update_index(folder, files, analysis, progress)
                opened = open_library(folder, state, analysis, source.weight)
        except OSError as error:
            raise LibraryError(
                f"{folder}: the index cannot be kept there: {error.strerror or error}",
                next_step="free space there, or set TASKDEF_CACHE to a folder on another disk",
            ) from error
    name = str(source.hub or source.path)
    return opened, SearchedLibrary(name, state.passages, _all_skipped(listing, state))


class _IndexedFile:
    """A file of a library as the index wants it."""

    def __init__(self, file: LibraryFile, source: PassageSource, converter: DocumentConverter) -> None:
        self.name = file.name
        self.stamp = file.version
        self._file, self._source, self._converter = file, source, converter
        self._skipped = SkipLog()

    def read(self) -> Iterator[Passage]:
        """Equal texts in other files are found by the index: which file is read before which may change."""
        self._skipped = SkipLog()
        return iter_file_passages(self._file, self._source, self._skipped, converter=self._converter)

    def notes(self) -> Any:
        named = [[skipped.what, skipped.reason.value, skipped.why] for skipped in self._skipped.named]
        return {"counts": dict(self._skipped.counts), "named": named}


def _all_skipped(listing: SkipLog, state: IndexState) -> SkipLog:
    """What was skipped in the listing, in the files (also those read by an earlier run) and as equal texts."""
    log = listing
    for file in state.files.values():
        for what, reason, why in file.notes["named"]:
            log.add(what, SkipReason(reason), why)
        named = Counter(reason for _, reason, _ in file.notes["named"])
        log.counts.update({SkipReason(reason): count - named[reason] for reason, count in file.notes["counts"].items()})
    for place in state.repeated:
        log.add(place, SkipReason.DUPLICATE, "same text as an earlier passage")
    log.counts[SkipReason.DUPLICATE] += state.duplicates - len(state.repeated)
    return log
