"""How alike the inputs of a set are in meaning: cosine similarity of their sentence embeddings."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskdef.analyze.records import Similarity
from taskdef.analyze.sets import TextSet

MOST_TEXTS = 500
"""Inputs drawn of a set: 124,750 pairs say as much about a distribution as a million would."""
LOW, HIGH, BINS = -0.25, 1.0, 50

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors of length 1 (texts x dimensions)."""


def describe_similarity(sets: Sequence[TextSet], embed: Embed, seed: int, most: int = MOST_TEXTS) -> list[Similarity]:
    """One description for each set of two inputs and more, on as many inputs as the smallest of them has: among more
    texts the nearest one is nearer."""
    large = [one for one in sets if len(one.inputs) >= 2]
    count = min([most, *(len(one.inputs) for one in large)])
    return [
        pairwise_similarity(one.name, embed(random.Random(f"{seed} pairs").sample(list(one.inputs), count)))
        for one in large
    ]


def pairwise_similarity(name: str, vectors: NDArray[Any]) -> Similarity:
    """Every pair of rows once. ``vectors``: texts x dimensions, of length 1. Raises ValueError for fewer than two."""
    if len(vectors) < 2:
        raise ValueError(f"{len(vectors)} vectors have no pairs")
    table = np.asarray(vectors, dtype=np.float64) @ np.asarray(vectors, dtype=np.float64).T
    values = table[np.triu_indices(len(table), k=1)]
    np.fill_diagonal(table, -np.inf)
    # equal texts may come out a rounding above 1, opposite ones below the lowest bin: both count at the edge
    counts, _ = np.histogram(np.clip(values, LOW, HIGH), bins=BINS, range=(LOW, HIGH))
    quantiles = np.quantile(values, [0.05, 0.5, 0.95])
    return Similarity(
        name=name,
        texts=len(vectors),
        pairs=len(values),
        mean=float(values.mean()),
        deviation=float(values.std()),
        quantiles=dict(zip(("5%", "50%", "95%"), map(float, quantiles), strict=True)),
        nearest=float(table.max(axis=1).mean()),
        counts=tuple(map(int, counts)),
        low=LOW,
        high=HIGH,
    )
