"""Overlap with the test set: equal in normal form, or most of an input's own word 8-grams stand in one test input."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from taskdef.screen.text import Comparable, take_apart
from taskdef.screen.wording import Wording


class TestOverlap:
    """The test inputs, indexed by normal form and by 8-gram."""

    __test__ = False

    def __init__(self, test_inputs: Sequence[str], share: float, wording: Wording) -> None:
        self._share = share
        self._wording = wording
        self._test_wording = Wording()
        self._by_normal: dict[str, int] = {}
        self._by_gram: defaultdict[int, list[int]] = defaultdict(list)
        for row, text in enumerate(test_inputs):
            item = take_apart(text)
            self._by_normal.setdefault(item.normal, row)
            self._test_wording.see(item.long)
            for gram in item.long.worded | item.long.exact:
                self._by_gram[gram].append(row)

    def find(self, item: Comparable) -> str | None:
        """What an input shares with which test row (counted from 0); None where it may stay.

        Wording that is common among the samples or among the test inputs counts on neither side. An input without
        8-grams of its own can only be equal.
        """
        if item.normal in self._by_normal:
            return f"equal to test row {self._by_normal[item.normal]}"
        common = self._wording.common(item.long.worded) | self._test_wording.common(item.long.worded)
        own = (item.long.worded | item.long.exact) - common
        rows = Counter(row for gram in own for row in self._by_gram.get(gram, ()))
        if not rows:
            return None
        shared = max(rows.values())
        if shared <= self._share * len(own):
            return None
        row = min(row for row, count in rows.items() if count == shared)
        return f"{shared} of {len(own)} word 8-grams in test row {row}"
