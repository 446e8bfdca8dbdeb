"""Drafts on their way to labelled samples: written, screened and voted on at the same time.

The screen must see the drafts in their order, or the result would depend on which came back first. So drafts go in
blocks: a block is screened when all its drafts are written and the block before it has been screened, and its votes
begin at once, while later blocks are still being written. A draft that is slow to come holds its own block and the
screening of those behind it, never their writing, nor the votes of those before it. Memory holds the blocks under way
and no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from taskdef.instruct.label import LabelRequest
from taskdef.records import Drop, Sample, Stage
from taskdef.screen.screen import Screen

BLOCK = 64
"""Drafts screened together: enough to tell wording that they share from wording of their own (screen/wording.py)."""
DRAFTS_AT_ONCE = 4_096

_DETAIL = 400

Plan = TypeVar("Plan")
Label = Callable[[list[LabelRequest]], Awaitable[list[Sample | Drop]]]


@runtime_checkable
class Patient(Protocol):
    """An instructor that says how many drafts should be under way at once: where its answers come hours later, as many
    as one batch takes."""

    @property
    def drafts_at_once(self) -> int:
        """At least one block."""
        ...


async def stream_labelled(
    plans: Sequence[Plan],
    *,
    write: Callable[[Plan], Awaitable[LabelRequest | Drop]],
    screen: Screen,
    label: Label,
    stage: Stage,
    decided: Callable[[], None],
    instructor: object = None,
) -> AsyncIterator[Sample | Drop]:
    """A sample or a drop for each plan, in order.

    ``write`` has a draft written, ``label`` puts the drafts of a block to the vote; both bound how many calls are in
    flight. ``decided`` is called for each plan that ends before its vote; ``label`` sees to the others. The
    ``instructor`` may say how many drafts it wants under way at once.
    """
    at_once = instructor.drafts_at_once if isinstance(instructor, Patient) else DRAFTS_AT_ONCE
    screened = [asyncio.Event() for _ in range(0, len(plans), BLOCK)]

    async def work(number: int) -> list[Sample | Drop]:
        written = await asyncio.gather(*map(write, plans[number * BLOCK : (number + 1) * BLOCK]))
        if number:
            await screened[number - 1].wait()
        requests = [outcome for outcome in written if isinstance(outcome, LabelRequest)]
        kept, outcomes = sift(screen, requests, stage)
        screened[number].set()
        outcomes |= {outcome.id: outcome for outcome in written if isinstance(outcome, Drop)}
        for _ in outcomes:
            decided()
        outcomes |= {outcome.id: outcome for outcome in await label(kept)}
        return [outcomes[outcome.id] for outcome in written]

    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note_failure(task: asyncio.Task[list[Sample | Drop]]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not failure.done():
            failure.set_exception(error)

    under_way: deque[asyncio.Task[list[Sample | Drop]]] = deque()
    begun = 0
    try:
        while under_way or begun < len(screened):
            while begun < len(screened) and len(under_way) * BLOCK < at_once:
                task = asyncio.create_task(work(begun))
                task.add_done_callback(note_failure)
                under_way.append(task)
                begun += 1
            waited: set[asyncio.Future[Any]] = {under_way[0], failure}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                failure.result()
            for outcome in under_way.popleft().result():
                yield outcome
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        failure.cancel()


def sift(
    screen: Screen, requests: Sequence[LabelRequest], stage: Stage
) -> tuple[list[LabelRequest], dict[str, Sample | Drop]]:
    """Those that pass the screen, and by id a drop for each that does not."""
    findings = screen.sift([request.draft.input for request in requests], [request.id for request in requests])
    kept: list[LabelRequest] = []
    drops: dict[str, Sample | Drop] = {}
    for request, finding in zip(requests, findings, strict=True):
        if finding is None:
            kept.append(request)
        else:
            reason, detail = finding
            drops[request.id] = Drop(
                reason=reason, stage=stage, id=request.id, passage_id=request.passage_id, detail=detail[:_DETAIL]
            )
    return kept, drops
