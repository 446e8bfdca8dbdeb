"""Bring an index up to date with its library: read what is new or changed, and nothing else.

    lock ── state ── forget removed and changed files ── read what is missing ── parts ── duplicates ── state

One process at a time works on an index. It notes its state after every part, so a kill costs the parts it was at; the
passages of a half-indexed file that are in finished parts are read again but not indexed again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from taskdef.progress import Progress
from taskdef.records import Passage
from taskdef.retrieve.index_state import PARTS, STATE, FileState, IndexState, PartState, Run
from taskdef.retrieve.index_totals import count_passages
from taskdef.retrieve.part import PASSAGES, Part
from taskdef.retrieve.part_build import PartWriter, index_part
from taskdef.retrieve.part_worker import PartIndexer
from taskdef.retrieve.tokens import Analysis

LOCK = ".lock"
SMALL_PARTS = 8
"""More parts than this that are at most half full are made into full ones: each part costs a query a little."""


class LibraryFile(Protocol):
    """A file of a library, or what stands for one (a data set)."""

    @property
    def name(self) -> str:
        """Its name in the library; no two have the same."""
        ...

    @property
    def stamp(self) -> str:
        """Another one whenever the content is another one."""
        ...

    def read(self) -> Iterator[Passage]:
        """Its passages, the same ones in the same order as long as the stamp is the same."""
        ...

    def notes(self) -> Any:
        """After ``read`` came to its end: what is worth keeping about it, as JSON."""
        ...


@dataclass
class _Open:
    """The part that is being written."""

    writer: PartWriter
    runs: list[Run]

    def add(self, file: str, position: int, passage: Passage) -> None:
        last = self.runs[-1] if self.runs else None
        if last is not None and last.file == file and last.first + last.count == position:
            last.count += 1
        else:
            self.runs.append(Run(file, position, len(self.writer), 1))
        self.writer.add(passage)


@contextmanager
def locked(folder: Path, progress: Progress) -> Iterator[None]:
    """Work on the index alone; where another process does, say so and wait. The system frees the lock at any end."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            progress.line(f"waiting for another process{f' ({holder})' if holder else ''}, which builds this index")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def update_index(
    folder: Path, files: Sequence[LibraryFile], analysis: Analysis, progress: Progress, *, distinct: bool = True
) -> IndexState:
    """Make the index in ``folder`` that of ``files``, in their order, and return its state. The caller holds the lock.

    With ``distinct``, of passages with equal texts only the first is searched.

    Raises LibraryError where it cannot be written; what the files' own ``read`` raises goes through.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = IndexState.read(folder)
    if state is None or state.analysis != analysis.to_json():
        state = IndexState(analysis.to_json())
    state.parts = [part for part in state.parts if _is_whole(folder, part)]
    stamps = {file.name: file.stamp for file in files}
    stale = [name for name, known in state.files.items() if stamps.get(name) != known.stamp]
    for name in stale:
        state.forget(name)
    unfinished = state.unfinished()
    missing = [file for file in files if file.name not in state.files or file.name in unfinished]
    in_order = list(state.files) == [file.name for file in files]
    if state.complete and not stale and not missing and in_order:
        return state
    state.complete = False
    _Update(folder, state, analysis, progress, distinct).run(files, missing)
    return state


class _Update:
    """One update: parts filled, handed on and noted."""

    def __init__(self, folder: Path, state: IndexState, analysis: Analysis, progress: Progress, distinct: bool) -> None:
        self._folder, self._state, self._analysis, self._progress = folder, state, analysis, progress
        self._distinct = distinct
        self._open: _Open | None = None
        self._indexer = PartIndexer(analysis)
        self._pending: dict[Future[dict[str, int]], _Open] = {}

    def run(self, files: Sequence[LibraryFile], missing: Sequence[LibraryFile]) -> None:
        state = self._state
        self._remove_unnamed()
        covered = state.covered()
        folded = self._small_parts()
        state.parts = [part for part in state.parts if part not in folded]
        with self._indexer:
            for part in folded:
                self._fold(part)
            self._progress.start("index", total=len(missing))
            for file in missing:
                self._read(file, covered.get(file.name, []))
                self._progress.advance()
            self._finish()
            self._progress.finish()
        state.files = {file.name: state.files[file.name] for file in files}
        count_passages(self._folder, state, distinct=self._distinct)
        state.complete = True
        state.write(self._folder)
        self._remove_unnamed()

    def _read(self, file: LibraryFile, kept: list[tuple[int, int]]) -> None:
        state = FileState(file.stamp)
        self._state.files[file.name] = state
        stretches = iter([*kept, None])
        stretch = next(stretches)
        position = 0
        for position, passage in enumerate(file.read(), start=1):
            place = position - 1
            while stretch is not None and place >= stretch[1]:
                stretch = next(stretches)
            if stretch is None or place < stretch[0]:
                self._add(file.name, place, passage)
        if kept and kept[-1][1] > position:  # a reader that gives less than before, though the stamp is the same
            self._state.cut_off(file.name, position)
        state.passages, state.notes = position, file.notes()

    def _add(self, file: str, position: int, passage: Passage) -> None:
        if self._open is None:
            self._open = _Open(PartWriter(self._folder / PARTS / uuid.uuid4().hex), [])
        self._open.add(file, position, passage)
        if self._open.writer.full:
            self._hand_on()

    def _fold(self, part: PartState) -> None:
        """Copy what still belongs to the library out of a small part."""
        content = Part(self._folder / PARTS / part.name)
        for run in part.runs:
            for i in range(run.count):
                text, name, source = content.passage(run.start + i)
                self._add(run.file, run.first + i, Passage(id=name, text=text, source=source))

    def _small_parts(self) -> list[PartState]:
        """Parts at most half full, where they are many; those of which nothing is left in any case."""
        small = [part for part in self._state.parts if part.owned <= PASSAGES // 2]
        return small if len(small) > SMALL_PARTS else [part for part in small if not part.owned]

    def _hand_on(self) -> None:
        assert self._open is not None
        self._open.writer.close()
        self._pending[self._indexer.submit(self._open.writer.folder)] = self._open
        self._open = None
        while len(self._pending) >= self._indexer.capacity:
            self._take(wait(self._pending, return_when=FIRST_COMPLETED).done)

    def _finish(self) -> None:
        if self._open is not None and not self._pending:  # a process of its own would cost more than it saves
            self._open.writer.close()
            self._note(self._open, index_part(self._open.writer.folder, self._analysis))
            self._open = None
        elif self._open is not None:
            self._hand_on()
        while self._pending:
            self._take(wait(self._pending, return_when=FIRST_COMPLETED).done)

    def _take(self, done: set[Future[dict[str, int]]]) -> None:
        for future in done:
            self._note(self._pending.pop(future), future.result())
        self._state.write(self._folder)
        self._progress.advance(0, note=f"{sum(part.passages for part in self._state.parts):,} passages")

    def _note(self, part: _Open, sizes: dict[str, int]) -> None:
        self._state.parts.append(PartState(part.writer.folder.name, len(part.writer), sizes, part.runs))

    def _remove_unnamed(self) -> None:
        """Remove what no state names: parts that a kill cut off, and those of which nothing is left."""
        named = {part.name for part in self._state.parts}
        for path in (self._folder / PARTS).glob("*"):
            if path.name not in named:
                shutil.rmtree(path, ignore_errors=True)  # a worker whose parent was killed may still write there
        for path in (*self._folder.glob("alive-*"), *self._folder.glob(f".{STATE}.*")):
            if path.name != self._state.alive:
                path.unlink()


def _is_whole(folder: Path, part: PartState) -> bool:
    """Whether the part's files are there, in the size they were written in."""
    place = folder / PARTS / part.name
    try:
        sizes = {name: (place / name).stat().st_size for name in part.sizes}
        return sizes == part.sizes and len(Part(place)) == part.passages
    except (OSError, ValueError):
        return False
