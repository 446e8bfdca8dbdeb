"""A library's index, opened for searching: its parts, and which of their passages are searched, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskdef.retrieve.index_state import PARTS, IndexState
from taskdef.retrieve.part import Part
from taskdef.retrieve.tokens import Analysis


@dataclass(frozen=True)
class SearchedPart:
    """A part of one library, with what decides the order of equal scores."""

    content: Part
    alive: NDArray[np.bool_] | None
    """Which passages are searched; None: all."""
    run_starts: NDArray[np.int64]
    run_ranks: NDArray[np.int64]
    """Of the runs' files, in the library's order."""
    run_firsts: NDArray[np.int64]

    def order(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """File and position in it, for passages of this part."""
        runs = np.searchsorted(self.run_starts, numbers, side="right") - 1
        return self.run_ranks[runs], self.run_firsts[runs] + numbers - self.run_starts[runs]


@dataclass(frozen=True)
class OpenLibrary:
    """A library's index, opened for searching."""

    parts: tuple[SearchedPart, ...]
    analysis: Analysis
    passages: int
    terms: int
    """The lengths of all passages added up."""
    weight: float = 1.0
    """Its scores are multiplied by this."""


def open_library(folder: Path, state: IndexState, analysis: Analysis, weight: float = 1.0) -> OpenLibrary:
    """Open the index in a folder, whose state is complete. The caller holds its lock; from then on the folder may be
    changed or removed. Raises OSError or ValueError where a file is missing or damaged."""
    rank = {name: number for number, name in enumerate(state.files)}
    alive = np.fromfile(folder / state.alive, dtype=bool) if state.alive else None
    parts = []
    start = 0
    for part in state.parts:
        here = None if alive is None else alive[start : start + part.passages]
        start += part.passages
        parts.append(
            SearchedPart(
                Part(folder / PARTS / part.name),
                None if here is None or here.all() else here,
                np.array([run.start for run in part.runs], dtype=np.int64),
                np.array([rank[run.file] for run in part.runs], dtype=np.int64),
                np.array([run.first for run in part.runs], dtype=np.int64),
            )
        )
    return OpenLibrary(tuple(parts), analysis, state.passages, state.terms, weight)
