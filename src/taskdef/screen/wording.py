"""Wording that the task's inputs share because the task is put that way, which says nothing about any one of them.

An n-gram of words (without numbers) is common wording where at least 10 inputs and at least a tenth of all inputs seen
hold it. Every other n-gram is an input's own. Inputs count once however often they come.

The limit of the rule: where an instructor writes one and the same story for more than a tenth of its samples, with
only the names changed, the story passes for wording and its copies are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from taskdef.screen.text import Grams

LEAST_INPUTS = 10
LEAST_SHARE = 0.1


class Wording:
    """Counts in how many inputs each n-gram occurs."""

    def __init__(self) -> None:
        self._inputs = 0
        self._counts: Counter[int] = Counter()

    def see(self, grams: Grams) -> None:
        """Count one more input."""
        self._inputs += 1
        self._counts.update(grams.worded)

    def common(self, grams: Iterable[int]) -> set[int]:
        """Those of the n-grams that are common wording by now."""
        least = max(LEAST_INPUTS, LEAST_SHARE * self._inputs)
        return {gram for gram in grams if self._counts[gram] >= least}

    def rarest_first(self, grams: Iterable[int]) -> list[int]:
        """The n-grams, those of the fewest inputs first."""
        return sorted(grams, key=lambda gram: self._counts[gram])
