"""From drafts to labelled samples: gold check, then majority vote (paper section 3.1, step "verification").

The instructor's own output and ``votes`` further ones are read; the most frequent answer is the label, and the share
of votes it got is kept. Shared by synthesize (initial samples) and adapt (rewrites).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from taskdef.instruct.protocol import Draft, Instructor
from taskdef.records import Drop, DropReason, Origin, Sample, Stage, TaskDefinition
from taskdef.verify.isolated import Verifier

_DETAIL = 300


@dataclass(frozen=True)
class LabelRequest:
    """A draft that wants a label, with the provenance that its sample will carry."""

    id: str
    draft: Draft
    origin: Origin = Origin.INITIAL
    parent_id: str | None = None
    passage_id: str | None = None
    domain: str | None = None
    steps: dict[str, str] = field(default_factory=dict)


async def label_drafts(
    definition: TaskDefinition,
    requests: Sequence[LabelRequest],
    *,
    instructor: Instructor,
    verifier: Verifier,
    votes: int,
    vote_temperature: float,
    min_vote_share: float,
    seed: int,
    stage: Stage,
    decided: Callable[[], None] = lambda: None,
) -> list[Sample | Drop]:
    """A sample or a drop for each request, in order, whatever order the calls come back in.

    GOLD_FAILS where the draft's own solution holds no readable answer: nothing is paid for then. NO_MAJORITY where
    answers tie for first, the first has no more than ``min_vote_share`` of the readable votes, or votes were asked for
    and the draft's own is the only readable one: nobody confirmed it. The sample's solution is one of the outputs that
    gave the winning answer, drawn by ``seed`` and the request's id.

    With an instructor whose labels are right by construction nothing is put to the vote: ``votes`` and ``vote_count``
    of the sample are 0 and its vote share is None, not a unanimous vote that nobody cast.

    ``decided`` is called after each request.
    """
    readings = await asyncio.to_thread(verifier.read_all, [request.draft.solution for request in requests])

    async def label(request: LabelRequest, answer: str | None, failure: str) -> Sample | Drop:
        if answer is None:
            detail = failure or f"no readable answer in: …{request.draft.solution[-_DETAIL:]}"
            outcome: Sample | Drop = _drop(request, DropReason.GOLD_FAILS, stage, detail)
        elif instructor.labels_by_construction:
            outcome = _sample(request, request.draft.solution, answer, votes=0, vote_count=0)
        else:
            outcome = await vote(request)
        decided()
        return outcome

    async def vote(request: LabelRequest) -> Sample | Drop:
        further = await instructor.answer(definition, request.draft.input, count=votes, temperature=vote_temperature)
        outputs = [request.draft.solution, *further]
        tally = await asyncio.to_thread(verifier.tally, outputs)
        unconfirmed = votes > 0 and tally.vote_count < 2
        if tally.answer is None or unconfirmed or tally.votes <= min_vote_share * tally.vote_count:
            detail = f"{tally.votes} of {tally.vote_count} votes for the most frequent answer"
            detail += f" {tally.answer!r}" if tally.answer is not None else " (a tie)"
            if unconfirmed:
                detail += f": the draft's own; none of the {votes} further answers could be had and read"
            return _drop(request, DropReason.NO_MAJORITY, stage, detail)
        winner = random.Random(f"{seed}/solution/{request.id}").choice(tally.winners)
        return _sample(request, outputs[winner], tally.answer, votes=tally.votes, vote_count=tally.vote_count)

    return await asyncio.gather(
        *(label(request, reading.answer, reading.failure) for request, reading in zip(requests, readings, strict=True))
    )


def _drop(request: LabelRequest, reason: DropReason, stage: Stage, detail: str) -> Drop:
    return Drop(reason=reason, stage=stage, id=request.id, passage_id=request.passage_id, detail=detail)


def _sample(request: LabelRequest, solution: str, answer: str, *, votes: int, vote_count: int) -> Sample:
    return Sample(
        id=request.id,
        input=request.draft.input,
        solution=solution,
        answer=answer,
        origin=request.origin,
        parent_id=request.parent_id,
        passage_id=request.passage_id,
        domain=request.domain,
        votes=votes,
        vote_count=vote_count,
        level=request.draft.level,
        steps=request.steps,
    )
