"""Rankings of an index's passages, and how the best are collected part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Hit(NamedTuple):
    """A passage as the index knows it, before its text is read."""

    part: int
    """Number of its part among all libraries' parts."""
    number: int
    """Its number in the part."""


@dataclass(frozen=True)
class Ranking:
    """The best passages, best first: score, number of the part among all libraries' parts, and number in it."""

    scores: NDArray[np.float64]
    parts: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def at(self, places: NDArray[np.int64]) -> Ranking:
        """What stands at these places of it."""
        return Ranking(self.scores[places], self.parts[places], self.numbers[places])

    def hits(self) -> list[Hit]:
        return [Hit(*place) for place in zip(self.parts.tolist(), self.numbers.tolist(), strict=True)]


class Best:
    """Collects passages part by part and lets go of those that can no longer be among the best ``count``."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._least = 0.0
        self._held: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]] = []
        self._size = 0

    def add(self, part: int, scores: NDArray[np.float64]) -> None:
        numbers = np.flatnonzero(scores >= self._least if self._least else scores > 0)
        self._held.append((scores[numbers], np.full(len(numbers), part), numbers))
        self._size += len(numbers)
        if self._size > 4 * self._count:
            self._held = [self.arrays()]
            self._size = len(self._held[0][0])

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Scores, parts and numbers of the best ``count``, and of all that have the last one's score."""
        if not self._held:
            return np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
        scores, parts, numbers = (np.concatenate(column) for column in zip(*self._held, strict=True))
        if len(scores) > self._count:
            self._least = float(np.partition(scores, -self._count)[-self._count])
            kept = scores >= self._least
            scores, parts, numbers = scores[kept], parts[kept], numbers[kept]
        return scores, parts, numbers
