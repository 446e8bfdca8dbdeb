"""Vote agreement against human correctness, where people have answered the same questions."""

from __future__ import annotations

from collections.abc import Sequence

from taskdef.analyze.records import VoteBin, Votes
from taskdef.analyze.sets import HumanRow
from taskdef.evaluate.overlap import normalised
from taskdef.evaluate.statistics import wilson_interval
from taskdef.records import Sample
from taskdef.verify.isolated import Verifier

EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper edges of the shares' ranges; a label's share of votes is above 0."""


def describe_votes(samples: Sequence[Sample], human: Sequence[HumanRow], verifier: Verifier) -> Votes | None:
    """Labels of samples whose question stands in the human rows, by their share of votes; None where none does.

    Samples that were not put to the vote are left out.
    """
    by_question = {normalised(row.input): row for row in human}
    matched = [
        (sample, by_question[question])
        for sample in samples
        if sample.vote_share is not None and (question := normalised(sample.input)) in by_question
    ]
    if not matched:
        return None
    readable = [(sample, row.answer) for sample, row in matched if row.answer is not None]
    verdicts = verifier.same([(answer, sample.answer) for sample, answer in readable])
    judged = [
        (sample.vote_share or 0.0, verdict)
        for (sample, _), verdict in zip(readable, verdicts, strict=True)
        if verdict is not None
    ]
    return Votes(
        matched=len(matched),
        unjudged=len(matched) - len(judged),
        correct=sum(right for _, right in judged),
        bins=tuple(_bin(low, high, judged) for low, high in zip((0.0, *EDGES), EDGES, strict=False)),
    )


def _bin(low: float, high: float, judged: Sequence[tuple[float, bool]]) -> VoteBin:
    inside = [right for share, right in judged if low < share <= high]
    if not inside:
        return VoteBin(low=low, high=high, labels=0, correct=0, share=None, share_low=None, share_high=None)
    share_low, share_high = wilson_interval(sum(inside), len(inside))
    return VoteBin(
        low=low,
        high=high,
        labels=len(inside),
        correct=sum(inside),
        share=sum(inside) / len(inside),
        share_low=share_low,
        share_high=share_high,
    )
