"""The screen that every draft passes before anything is spent on it."""

from __future__ import annotations

from collections.abc import Sequence

from taskdef.records import Demo, DropReason
from taskdef.screen.duplicates import Duplicates
from taskdef.screen.overlap import TestOverlap
from taskdef.screen.text import Comparable, take_apart
from taskdef.screen.wording import Wording

Finding = tuple[DropReason, str]


class Screen:
    """Sifts inputs in order and remembers those it let through."""

    def __init__(
        self,
        test_inputs: Sequence[str],
        demos: Sequence[Demo],
        *,
        near_duplicate_similarity: float = 0.9,
        test_overlap: float = 0.5,
    ) -> None:
        """``near_duplicate_similarity`` and ``test_overlap`` as in SynthesizeConfig."""
        self._short_wording = Wording()
        self._long_wording = Wording()
        self._seen: set[str] = set()
        self._demos = {take_apart(demo.input).normal for demo in demos}
        self._duplicates = Duplicates(near_duplicate_similarity, self._short_wording)
        self._overlap = TestOverlap(test_inputs, test_overlap, self._long_wording)

    def sift(self, inputs: Sequence[str], ids: Sequence[str] | None = None) -> list[Finding | None]:
        """For each input the reason to drop it, with a detail, or None; in order, an earlier input going first.

        All inputs of the call count when it is settled what common wording is. ``ids`` (by default the positions)
        name the inputs in the details of later duplicates.
        """
        items = [take_apart(text) for text in inputs]
        self._see(items)
        names = ids if ids is not None else [str(position) for position in range(len(inputs))]
        findings: list[Finding | None] = []
        for name, item in zip(names, items, strict=True):
            finding = self._judge(item)
            if finding is None:
                self._duplicates.add(name, item)
            findings.append(finding)
        return findings

    def remember(self, inputs: Sequence[str], ids: Sequence[str]) -> None:
        """Take inputs in that were let through before (by an earlier stage), without judging them again."""
        items = [take_apart(text) for text in inputs]
        self._see(items)
        for name, item in zip(ids, items, strict=True):
            self._duplicates.add(name, item)

    def _see(self, items: Sequence[Comparable]) -> None:
        for item in items:
            if item.normal not in self._seen:
                self._seen.add(item.normal)
                self._short_wording.see(item.short)
                self._long_wording.see(item.long)

    def _judge(self, item: Comparable) -> Finding | None:
        overlap = self._overlap.find(item)
        if overlap is not None:
            return DropReason.OVERLAPS_TEST, overlap
        if item.normal in self._demos:
            return DropReason.OVERLAPS_DEMO, "equal to a demo's input"
        duplicate = self._duplicates.find(item)
        if duplicate is not None:
            return DropReason.DUPLICATE, duplicate
        return None
