"""What is known once a library was read to its end: which passages are searched, and how long they are together."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import numpy as np

from taskdef.retrieve.index_state import PARTS, IndexState
from taskdef.retrieve.part import Part
from taskdef.retrieve.skips import NAMED


def count_passages(folder: Path, state: IndexState, *, distinct: bool) -> None:
    """Work out ``alive``, ``passages``, ``terms``, ``duplicates`` and ``repeated`` of the state.

    Searched are the passages of the library's files; with ``distinct``, of equal texts the first in the library's
    order only.
    """
    rank = {name: i for i, name in enumerate(state.files)}
    parts = [Part(folder / PARTS / part.name) for part in state.parts]
    runs = sorted(
        (rank[run.file], run.first, number, run.start, run.start + run.count)
        for number, part in enumerate(state.parts)
        for run in part.runs
    )
    alive = [np.zeros(part.passages, dtype=bool) for part in state.parts]
    state.passages = state.terms = state.duplicates = 0
    state.repeated = []
    if runs:
        digests = np.concatenate([parts[number].arrays.digests[start:end] for _, _, number, start, end in runs])
        first = np.full(len(digests), not distinct)
        first[np.unique(digests, return_index=True)[1]] = True
        place = 0
        for _, _, number, start, end in runs:
            alive[number][start:end] = first[place : place + end - start]
            place += end - start
            repeated = np.flatnonzero(~alive[number][start:end])[: NAMED - len(state.repeated)]
            state.repeated += [parts[number].passage(start + i)[2] for i in repeated.tolist()]
        state.passages = int(first.sum())
        state.duplicates = len(first) - state.passages
        state.terms = sum(
            int(part.arrays.lengths[here].sum(dtype=np.int64)) for part, here in zip(parts, alive, strict=True)
        )
    state.alive = None
    if not all(here.all() for here in alive):
        state.alive = f"alive-{uuid.uuid4().hex}"
        with (folder / state.alive).open("wb") as file:
            np.concatenate(alive).tofile(file)
            file.flush()
            os.fsync(file.fileno())
