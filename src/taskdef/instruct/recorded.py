"""An endpoint behind a ledger: what was answered once, in this run or in a shared cache, is never asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

from taskdef.errors import InstructorError
from taskdef.instruct.batch import DRAFTS_OF_A_BATCH, Batches
from taskdef.instruct.chat import ChatFailed, ChatRequest, ChatResponse, request_keys
from taskdef.instruct.ledger import Ledger, Sent
from taskdef.instruct.meter import Meter
from taskdef.instruct.protocol import Spending
from taskdef.instruct.sender import Sender
from taskdef.instruct.stream import DRAFTS_AT_ONCE


class RecordedChat:
    """Looks into the ledger, then into the caches, asks the endpoint otherwise, and records before it answers."""

    def __init__(self, sender: Sender, caches: Sequence[Ledger] = ()) -> None:
        """``caches``: ledgers of other runs, the first that knows an answer gives it; new answers go to all that can
        be written."""
        self.sender = sender
        self.ledger = sender.ledger
        self.meter = Meter(sender.budget, sender.prices)
        self._caches = caches
        self._reused = 0
        self._pending: dict[str, asyncio.Task[tuple[dict[int, ChatResponse], str]]] = {}
        self._earlier: dict[str, asyncio.Task[tuple[dict[int, ChatResponse], str]]] | None = None
        self._sending: set[asyncio.Task[tuple[dict[int, ChatResponse], str]]] = set()

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer one request. Raises ChatFailed for this request alone, InstructorError where none can succeed."""
        responses, why = await self._answer(request, 1)
        if not responses:
            raise ChatFailed(why)
        return responses[0]

    async def complete_many(self, request: ChatRequest, count: int) -> list[ChatResponse]:
        """``count`` independent responses, with the indices from ``request.index`` on; fewer where some failed for
        good. Raises InstructorError where none can succeed."""
        return (await self._answer(request, count))[0]

    def spending(self) -> Spending:
        """Requests, tokens and money of the whole run, as the ledger has them; reuse is this process's own."""
        totals = self.ledger.totals()
        return Spending(
            calls=totals.calls,
            responses=totals.responses,
            reused=self._reused,
            from_cache=totals.from_cache,
            failed_tries=totals.failed_tries,
            lost=totals.lost,
            prompt_tokens=totals.prompt_tokens,
            cached_tokens=totals.cached_tokens,
            completion_tokens=totals.completion_tokens,
            cost=totals.cost,
            unpriced=totals.unpriced,
            faults=dict(totals.faults),
        )

    @property
    def in_flight(self) -> int:
        """Requests under way: paid for, and kept if they are waited for. Batches wait for nobody."""
        return self.sender.in_flight if self.sender.batches is None else 0

    @property
    def drafts_at_once(self) -> int:
        """How many drafts should be under way at once (see stream.py)."""
        return DRAFTS_AT_ONCE if self.sender.batches is None else DRAFTS_OF_A_BATCH

    async def close(self) -> None:
        """Begin nothing new, take what is under way into the ledger, then close endpoint, ledger and caches.

        Waits as long as an exchange may take (``instruct.timeout_seconds``): each answer on its way is paid for.
        """
        self.sender.stop()
        try:
            while self._sending and self.in_flight:
                await asyncio.wait(self._sending, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            if self.sender.batches is not None:
                await self.sender.batches.close()
            await self.sender.endpoint.close()
            for ledger in (self.ledger, *self._caches):
                ledger.close()

    async def _answer(self, request: ChatRequest, count: int) -> tuple[list[ChatResponse], str]:
        """Responses in the order of their indices, and why some are missing."""
        endpoint = self.sender.endpoint
        self.meter.began(request.purpose)
        keys = request_keys(request, count, model=endpoint.model, address=endpoint.address)
        indices = dict(zip(keys, range(request.index, request.index + count), strict=True))
        if self.sender.batches is not None:
            await self._wait_for_earlier(self.sender.batches, keys)
        known = self.ledger.get(keys)
        self._reused += len(known)
        found = {indices[key]: response for key, response in known.items()}
        missing = [key for key in keys if key not in known]
        if missing and self._caches:
            found |= await self._from_caches(request, {key: indices[key] for key in missing})
            missing = [key for key in missing if indices[key] not in found]
        tasks = {self._pending[key] for key in missing if key in self._pending}
        if new := [key for key in missing if key not in self._pending]:
            tasks.add(self._begin(request, new, [indices[key] for key in new]))
        why = ""
        for task in tasks:
            # Shielded: whoever waits may be stopped, what was sent is paid for and goes into the ledger all the same.
            responses, reason = await asyncio.shield(task)
            found |= {index: response for index, response in responses.items() if index in indices.values()}
            why = why or reason
        responses_in_order = [found[index] for index in sorted(found)]
        self.meter.ended(request.purpose, responses_in_order, endpoint.takes_count())
        return responses_in_order, why

    def _begin(
        self, request: ChatRequest, keys: Sequence[str], indices: Sequence[int]
    ) -> asyncio.Task[tuple[dict[int, ChatResponse], str]]:
        task = self._in_background(self._send(request, indices))
        self._pending |= dict.fromkeys(keys, task)

        def forget(_: asyncio.Task[tuple[dict[int, ChatResponse], str]]) -> None:
            for key in keys:
                self._pending.pop(key, None)

        task.add_done_callback(forget)
        return task

    def _in_background(
        self, work: Coroutine[Any, Any, tuple[dict[int, ChatResponse], str]]
    ) -> asyncio.Task[tuple[dict[int, ChatResponse], str]]:
        task = asyncio.ensure_future(work)
        self._sending.add(task)

        def forget(done: asyncio.Task[tuple[dict[int, ChatResponse], str]]) -> None:
            self._sending.discard(done)
            if not done.cancelled():
                done.exception()  # whoever waited has it; where nobody does any more, it is no news

        task.add_done_callback(forget)
        return task

    async def _wait_for_earlier(self, batches: Batches, keys: Sequence[str]) -> None:
        """Wait for answers that an earlier process asked for in a batch; then they are on record, or have failed."""
        if self._earlier is None:
            self._earlier = {}
            endpoint = self.sender.endpoint
            for sent in batches.begun():
                task = self._in_background(self._take_up(sent))
                for index in sent.indices:
                    own = replace(sent.request, index=index)
                    self._earlier[request_keys(own, 1, model=endpoint.model, address=endpoint.address)[0]] = task
        for task in {self._earlier[key] for key in keys if key in self._earlier}:
            await asyncio.shield(task)

    async def _take_up(self, sent: Sent) -> tuple[dict[int, ChatResponse], str]:
        responses = await self.sender.take_up(sent)
        await self._to_caches(sent.request, responses)
        return responses, ""

    async def _send(self, request: ChatRequest, indices: Sequence[int]) -> tuple[dict[int, ChatResponse], str]:
        try:
            responses, why = await self.sender.send(request, indices)
        except ChatFailed as failure:
            return {}, str(failure)
        await self._to_caches(request, responses)
        return responses, why

    async def _from_caches(self, request: ChatRequest, wanted: dict[str, int]) -> dict[int, ChatResponse]:
        """Answers of other runs, taken over into this run's ledger."""
        rows = {}
        for cache in self._caches:
            for key, response in cache.get([key for key in wanted if key not in rows]).items():
                rows[key] = (replace(request, index=wanted[key]), response)
        if rows:
            endpoint = self.sender.endpoint
            await self.ledger.copy(rows, model=endpoint.model, address=endpoint.address)
        return {wanted[key]: response for key, (_, response) in rows.items()}

    async def _to_caches(self, request: ChatRequest, responses: dict[int, ChatResponse]) -> None:
        endpoint = self.sender.endpoint
        rows = {}
        for index, response in responses.items():
            own = replace(request, index=index)
            rows[request_keys(own, 1, model=endpoint.model, address=endpoint.address)[0]] = (own, response)
        for cache in self._caches:
            if rows and not cache.read_only:
                await cache.copy(rows, model=endpoint.model, address=endpoint.address)


def out_of_reach(name: str, purpose: str, failure: ChatFailed) -> InstructorError:
    """The error for a request that a run cannot do without."""
    return InstructorError(
        f"{name}: no response to the request for {purpose}: {failure}",
        next_step="repeat the same command, or name another instructor",
    )
