"""Several rankings to one, and one ranking to an order that does not lean on a few documents."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from typing import TypeVar

from taskdef.records import Passage
from taskdef.retrieve.files import KINDS, FileKind

RANK_CONSTANT = 60
"""Cormack, Clarke and Buettcher 2009 (reciprocal rank fusion) found no better value in 0 to 500."""
_CUT_FILES = (FileKind.TEXT, FileKind.HTML, FileKind.PDF, FileKind.DOCX)

Key = TypeVar("Key", bound=Hashable)


def merge_rankings(rankings: Sequence[tuple[float, Sequence[Key]]], count: int) -> list[Key]:
    """The best ``count`` by the sum of weight / (60 + rank) over the rankings, given with their weights, best first.

    Ranks begin at 1; what a ranking does not hold gets nothing from it. Ties stay in the order of first appearance.
    """
    scores: dict[Key, float] = {}
    for weight, ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + weight / (RANK_CONSTANT + rank)
    return heapq.nsmallest(count, scores, key=lambda key: -scores[key])  # as sorted() would, ties included


def spread_documents(documents: Sequence[str]) -> list[int]:
    """An order of all places 0, 1, …, given each place's document, best first, that uses documents evenly.

    Next is always the place with the highest 1 / (60 + rank) / (1 + how often its document was taken): a document's
    second passage gives way to about 60 passages of fresh documents behind it, its third to 60 more. So the best still
    come first, and where a few documents hold all the first places, those further down have their turn.
    """
    places: dict[str, list[int]] = {}
    for place, document in enumerate(documents):
        places.setdefault(document, []).append(place)
    heap = [(-1 / (RANK_CONSTANT + own[0] + 1), own[0], document, 0) for document, own in places.items()]
    heapq.heapify(heap)
    order = []
    while heap:
        _, place, document, used = heapq.heappop(heap)
        order.append(place)
        used += 1
        if used < len(own := places[document]):
            value = 1 / (RANK_CONSTANT + own[used] + 1) / (1 + used)
            heapq.heappush(heap, (-value, own[used], document, used))
    return order


def take_turns(rankings: Sequence[Sequence[Passage]], count: int) -> list[Passage]:
    """Up to ``count`` passages, the rankings choosing in turn the best that none has chosen before."""
    chosen: dict[str, Passage] = {}
    rests = [iter(ranking) for ranking in rankings]
    while rests and len(chosen) < count:
        still = []
        for rest in rests:
            best = next((passage for passage in rest if passage.id not in chosen), None)
            if best is not None and len(chosen) < count:
                chosen[best.id] = best
                still.append(rest)
        rests = still
    return list(chosen.values())


def document_of(passage_id: str) -> str:
    """The document that a passage was cut from: its file, or its row in a file of rows or a data set.

    Ids are ``FILE#POSITION``, and for rows ``FILE#ROW`` or ``FILE#ROW.PART`` (see library.py).
    """
    file, mark, position = passage_id.rpartition("#")
    if not mark:
        return passage_id
    kind = next((kind for suffix, kind in KINDS.items() if file.lower().endswith(suffix)), None)
    return file if kind in _CUT_FILES else f"{file}#{position.partition('.')[0]}"
