"""Duplicates among inputs: equal in normal form, or near (Jaccard similarity of their own word 3-grams)."""

from __future__ import annotations

import math
from collections import defaultdict

from taskdef.screen.text import Comparable
from taskdef.screen.wording import Wording


class Duplicates:
    """The inputs kept so far, indexed by normal form and by n-gram."""

    def __init__(self, similarity: float, wording: Wording) -> None:
        self._similarity = similarity
        self._wording = wording
        self._ids: list[str] = []
        self._kept: list[Comparable] = []
        self._by_normal: dict[str, int] = {}
        self._by_gram: defaultdict[tuple[tuple[str, ...], int], list[int]] = defaultdict(list)

    def find(self, item: Comparable) -> str | None:
        """Id of a kept input that is equal or near; the earliest one. None where there is none.

        Near means: the same numbers and signs in the same order, and a Jaccard similarity of at least the threshold
        between the sets of own 3-grams (between all 3-grams where common wording is all that one of them has).
        """
        if item.normal in self._by_normal:
            return self._ids[self._by_normal[item.normal]]
        everything = item.short.worded | item.short.exact
        own = everything - self._wording.common(item.short.worded)
        near = min(self._near(item, own or everything, bool(own)), default=None)
        return None if near is None else self._ids[near]

    def add(self, identity: str, item: Comparable) -> None:
        """Keep an input."""
        position = len(self._ids)
        self._ids.append(identity)
        self._kept.append(item)
        self._by_normal.setdefault(item.normal, position)
        for gram in item.short.worded | item.short.exact:
            self._by_gram[item.numbers, gram].append(position)

    def _near(self, item: Comparable, grams: frozenset[int], own_only: bool) -> list[int]:
        # Sets with similarity s or more share at least s of this one's members, so any choice of more than (1 - s) of
        # them meets every near set: look up the rarest ones, and compare in full only what those find.
        needed = len(grams) - math.ceil(self._similarity * len(grams) - 1e-9) + 1
        probes = self._wording.rarest_first(grams)[:needed]
        found = {position for gram in probes for position in self._by_gram.get((item.numbers, gram), ())}
        return [position for position in found if self._similar(grams, self._kept[position], own_only)]

    def _similar(self, grams: frozenset[int], other: Comparable, own_only: bool) -> bool:
        theirs = other.short.worded | other.short.exact
        if own_only:
            theirs -= self._wording.common(other.short.worded)
        union = len(grams | theirs)
        return union > 0 and len(grams & theirs) / union >= self._similarity
