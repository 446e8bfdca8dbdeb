"""Sends requests to an endpoint until they are answered, within its limits and under the cap, each on record.

One try: a slot, the cap, the ledger's open row, the exchange, the ledger's closed row. A fault is tried again up to
``max_retries`` times (those of the model itself up to ``_TRIES_OF_THE_MODEL`` times), after the time the server names
in Retry-After or else after a doubling, jittered wait, without holding a slot meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError
from taskdef.instruct.batch import Batches, LeftAtServer, NeverSent
from taskdef.instruct.batch_records import total
from taskdef.instruct.budget import Amount, Budget, parse_caps
from taskdef.instruct.chat import ChatFailed, ChatRequest, ChatResponse, Endpoint, Reply, Usage, request_keys
from taskdef.instruct.concurrency import AdaptiveLimit, MinuteLimit
from taskdef.instruct.faults import NEVER_BILLED, OF_THE_MODEL, OVERLOAD, Fault, FaultKind
from taskdef.instruct.ledger import Ledger, Sent, Settled
from taskdef.instruct.prices import Prices

_LONGEST_WAIT = 120.0
_LONGEST_BACKOFF = 60.0
_TRIES_OF_THE_MODEL = 4
_TRIES_OF_A_FIRST_CONNECTION = 4
"""An endpoint that was never reached is more likely misspelt than restarting."""
_GIVE_UP_AFTER = 8
"""Requests in a row that use up all their tries, with no success between: the endpoint is down, not the request."""
_GIVE_UP_ON_THE_MODEL_AFTER = 32
"""Requests in a row that the endpoint rejects or the model leaves without an answer: some prompts are like that, not
all, and each try of an empty answer is paid for."""
_TEMPLATE_TOKENS = 128
"""More than chat templates add to a prompt of their own accord."""
_LATER = {"generate": 1, "harder": 1, "easier": 1}
"""Drafts wait for votes: a sample that was begun is finished first, and few are under way at once."""
_RESUME = "repeat the same command when it is back: what is in the ledger is not paid for again"


class Sender:
    """One endpoint with its limits, its cap and its ledger."""

    def __init__(
        self,
        endpoint: Endpoint,
        ledger: Ledger,
        config: InstructorConfig,
        *,
        batches: Batches | None = None,
        backoff_seconds: float = 0.5,
    ) -> None:
        """Takes over the habits and the spending of earlier processes from the ledger.

        With ``batches`` every request goes through them. Limits on requests in flight and a minute are not theirs: what
        waits in a batch holds nobody up.

        Raises InstructorError where the cap is in money and no price is known.
        """
        self.endpoint = endpoint
        self.ledger = ledger
        self.batches = batches
        self.prices = Prices(endpoint.model, endpoint.address, config)
        self.limit = AdaptiveLimit(config.concurrency)
        self._config = config
        self._backoff_seconds = backoff_seconds
        self._per_minute = (MinuteLimit(config.requests_per_minute), MinuteLimit(config.tokens_per_minute))
        caps = parse_caps(config.budget)
        if caps.usd is not None and not self.prices.known:
            raise InstructorError(
                f"{endpoint.model} at {endpoint.address}: no price is known, so a budget in money cannot hold",
                next_step="cap tokens or calls (--budget 2Mtokens), or give the prices: --set instruct.price_input=… "
                "--set instruct.price_output=… in US dollars a million tokens",
            )
        ledger.close_lost_requests()
        endpoint.habits.update(ledger.learned(self._name))
        self._known_habits = dict(endpoint.habits)
        in_batches = total(batches.begun()) if batches is not None else Amount()
        spent = ledger.totals().counted - in_batches
        self.budget = Budget(caps, spent + self._cost_of_unpriced(), aside=in_batches)
        self._has_connected = False
        self._exhausted_in_a_row = self._unanswered_in_a_row = 0
        self._is_stopping = False
        self._exchanging = 0

    def _cost_of_unpriced(self) -> Amount:
        """What was sent before there was a price, at the price of now: a cap in money counts it too."""
        usage, others = self.ledger.unpriced()
        dearest = max(self.prices.cost(Usage(others, 0)) or 0.0, self.prices.cost(Usage(0, others)) or 0.0)
        return Amount(usd=(self.prices.cost(usage) or 0.0) + dearest)

    @property
    def in_flight(self) -> int:
        """Exchanges under way."""
        return self._exchanging

    def stop(self) -> None:
        """Begin nothing new; what is under way goes on to its end."""
        self._is_stopping = True

    async def send(self, request: ChatRequest, indices: Sequence[int]) -> tuple[dict[int, ChatResponse], str]:
        """Responses by index, each recorded, and why others are missing (empty where none are).

        Raises InstructorError where no request can succeed, BudgetReached at the cap.
        """
        if len(indices) > 1 and not self.endpoint.takes_count():
            return await self._send_one_by_one(request, indices)
        responses: dict[int, ChatResponse] = {}
        faults: list[Fault] = []
        while missing := [index for index in indices if index not in responses]:
            if len(missing) > 1 and not self.endpoint.takes_count():
                rest, why = await self.send(request, missing)
                return responses | rest, why
            try:
                responses |= await self._try(request, missing, tries=len(faults) + 1)
            except Fault as fault:
                faults.append(fault)
                if not self._is_worth_another_try(faults):
                    return responses, self._give_up(faults)
                await asyncio.sleep(self._wait(faults))
        return responses, ""

    async def _send_one_by_one(
        self, request: ChatRequest, indices: Sequence[int]
    ) -> tuple[dict[int, ChatResponse], str]:
        # All are waited for, also where one of them fails: whoever waits for this task waits for all that is paid.
        parts = await asyncio.gather(*(self.send(request, [index]) for index in indices), return_exceptions=True)
        merged: dict[int, ChatResponse] = {}
        reasons = []
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            merged |= part[0]
            reasons.append(part[1])
        return merged, next(filter(None, reasons), "")

    async def _try(self, request: ChatRequest, indices: Sequence[int], *, tries: int) -> dict[int, ChatResponse]:
        """One exchange, on record. Raises Fault."""
        most = self._most(request, len(indices))
        async with self._turn(request, len(indices)) as began:
            await self.budget.set_aside(most)
            self._exchanging += 1  # from before it is on record until its answer is
            try:
                sent = await self._open(request, indices, most)
                if self.batches is not None:
                    return await self._receive(sent, self.batches.ask(sent), tries)
                responses = await self._receive(sent, self.endpoint.ask(request, len(indices)), tries)
            except Fault as fault:
                if fault.kind in OVERLOAD and self.batches is None:
                    self.limit.overloaded(began, _bounded(fault.retry_after))
                raise
            finally:
                self._exchanging -= 1
            self.limit.succeeded(sum(each.completion_tokens for each in responses.values()) or len(responses))
            return responses

    async def _open(self, request: ChatRequest, indices: Sequence[int], most: Amount) -> Sent:
        """Put a request on record for which ``most`` is set aside; where that fails it is given back."""
        try:
            self._refuse_if_stopping()
            number = await self.ledger.open_request(request, len(indices), most, queued=self.batches is not None)
        except BaseException:
            self.budget.settle(most, Amount())
            raise
        return Sent(number, request, tuple(indices), most)

    @asynccontextmanager
    async def _turn(self, request: ChatRequest, count: int) -> AsyncIterator[float]:
        """Wait until this request may be sent; gives when that was (``time.monotonic()``)."""
        if self.batches is not None:
            yield time.monotonic()
            return
        async with self.limit.slot(_LATER.get(request.purpose, 0)) as began:
            self._refuse_if_stopping()
            for limit, units in zip(self._per_minute, (1, self._expected_tokens(request, count)), strict=True):
                await limit.take(units)
            yield began

    async def take_up(self, sent: Sent) -> dict[int, ChatResponse]:
        """The responses to a request that an earlier process put into a batch, recorded; none where it failed.

        Raises InstructorError where the batch cannot be seen.
        """
        assert self.batches is not None
        try:
            return await self._receive(sent, self.batches.answer_to(sent), tries=1)
        except Fault:
            return {}  # counted; whoever wants it asks again

    async def _receive(self, sent: Sent, answer: Awaitable[Reply], tries: int) -> dict[int, ChatResponse]:
        """Wait for the answer and put it on record; what was set aside is given back. Raises Fault."""
        used = sent.most  # until it is known better: also where this is cancelled
        started = time.monotonic()
        try:
            try:
                reply = await answer
            except Fault as fault:
                settled = self._failed(fault, sent.most, time.monotonic() - started)
                used = settled.counted
                await self._settle(sent, settled)
                raise
            except NeverSent:
                used = Amount()
                assert self.batches is not None
                await self.batches.forget(sent)
                return {}
            except LeftAtServer:
                raise
            except InstructorError as error:
                used = Amount(calls=1)  # refused before any model was at work
                seconds = time.monotonic() - started
                rejected = FaultKind.REJECTED.value
                await self._settle(sent, Settled("failed", None, None, used, seconds, rejected, error.message[:300]))
                raise
            self._has_connected = True
            self._exhausted_in_a_row = self._unanswered_in_a_row = 0
            settled = self._done(reply, sent.most, time.monotonic() - started)
            used = settled.counted
            responses = self._responses(reply, sent.indices, settled, tries)
            await self._settle(sent, settled, responses)
        finally:
            self.budget.settle(sent.most, used)
        return responses

    async def _settle(
        self, sent: Sent, settled: Settled, responses: Mapping[int, ChatResponse] = MappingProxyType({})
    ) -> None:
        """Record how a request ended, and what was learned about the endpoint."""
        model, address = self.endpoint.model, self.endpoint.address
        rows = {}
        for index, response in responses.items():
            own = replace(sent.request, index=index)
            rows[request_keys(own, 1, model=model, address=address)[0]] = (own, response)
        if self.endpoint.habits != self._known_habits:
            self._known_habits = dict(self.endpoint.habits)
            await self.ledger.learn(self._name, self._known_habits)
        await self.ledger.settle(sent.number, settled, rows, model=model, address=address)
        if self.batches is not None:
            await self.batches.settled(sent)

    def _done(self, reply: Reply, most: Amount, seconds: float) -> Settled:
        cost = self.prices.cost(reply.usage)
        counted = Amount(
            most.usd if cost is None else cost, reply.usage.tokens if reply.usage else most.tokens, calls=1
        )
        return Settled("done", reply.usage, cost, counted, seconds, fault=reply.note or None)

    def _failed(self, fault: Fault, most: Amount, seconds: float) -> Settled:
        """A request whose answer was lost may have been billed in full."""
        cost = self.prices.cost(fault.usage)
        if fault.kind in NEVER_BILLED:
            counted = Amount(calls=1)
        else:
            tokens = fault.usage.tokens if fault.usage else most.tokens
            counted = Amount(most.usd if cost is None else cost, tokens, calls=1)
        return Settled("failed", fault.usage, cost, counted, seconds, fault.kind.value, fault.detail)

    def _responses(self, reply: Reply, indices: Sequence[int], settled: Settled, tries: int) -> dict[int, ChatResponse]:
        usage = reply.usage or Usage(0, 0)
        count = min(len(reply.choices), len(indices))
        share, rest = divmod(usage.completion_tokens, count)
        output_cost = self.prices.cost(Usage(0, share)) if settled.cost is not None else None
        responses = {}
        for position, (index, choice) in enumerate(zip(indices, reply.choices, strict=False)):
            cost = output_cost
            if position == 0 and settled.cost is not None and output_cost is not None:
                cost = settled.cost - output_cost * (count - 1)
            responses[index] = ChatResponse(
                text=choice.text,
                finish_reason=choice.finish_reason,
                prompt_tokens=usage.prompt_tokens if position == 0 else 0,
                cached_tokens=usage.cached_tokens if position == 0 else 0,
                completion_tokens=share + (rest if position == 0 else 0),
                cost=cost,
                seconds=settled.seconds,
                tries=tries,
            )
        return responses

    def _most(self, request: ChatRequest, count: int) -> Amount:
        """What a request can come to at most: a token is at least one byte of the prompt."""
        usage = Usage(_prompt_bytes(request) + _TEMPLATE_TOKENS, count * request.max_tokens)
        return Amount(self.prices.cost(usage) or 0.0, usage.tokens, calls=1)

    def _expected_tokens(self, request: ChatRequest, count: int) -> int:
        """As endpoints with a limit a minute count a request before they know: a token for four bytes."""
        return _prompt_bytes(request) // 4 + count * request.max_tokens

    def _is_worth_another_try(self, faults: list[Fault]) -> bool:
        last = faults[-1].kind
        if last in (FaultKind.REJECTED, FaultKind.CANCELLED) or self._is_stopping:
            return False
        if last in OF_THE_MODEL and sum(fault.kind in OF_THE_MODEL for fault in faults) >= _TRIES_OF_THE_MODEL:
            return False
        if not self._has_connected and all(fault.kind is FaultKind.NO_CONNECTION for fault in faults):
            return len(faults) < min(_TRIES_OF_A_FIRST_CONNECTION, self._config.max_retries + 1)
        return len(faults) <= self._config.max_retries

    def _wait(self, faults: list[Fault]) -> float:
        named = _bounded(faults[-1].retry_after)
        if named is not None:
            return named
        doubled: float = self._backoff_seconds * 2.0 ** (len(faults) - 1)
        return min(doubled, _LONGEST_BACKOFF) * random.uniform(0.75, 1.25)

    def _give_up(self, faults: list[Fault]) -> str:
        """Why a request failed for good. Raises InstructorError where it is the endpoint that failed."""
        last = faults[-1]
        where = f"openai:{self.endpoint.model}@{self.endpoint.address}"
        if last.kind is FaultKind.CANCELLED:
            raise InstructorError(
                f"{where}: a batch was cancelled at the server; the answers it had are kept",
                next_step="repeat the same command to submit the rest again",
            )
        text = f"{len(faults)} tries; last: {last}" if len(faults) > 1 else str(last)
        if self._is_stopping:
            return text
        if last.kind is FaultKind.REJECTED or last.kind in OF_THE_MODEL:
            self._unanswered_in_a_row += 1
            if self._unanswered_in_a_row >= _GIVE_UP_ON_THE_MODEL_AFTER:
                raise InstructorError(
                    f"{where}: {self._unanswered_in_a_row} requests in a row got no answer; last: {text}",
                    next_step="see what it says; a model that thinks first needs a larger instruct.max_tokens. "
                    "What is in the ledger is not paid for again",
                )
            return text
        if all(fault.kind is FaultKind.NO_CONNECTION for fault in faults):
            raise InstructorError(
                f"{where}: cannot be reached after {len(faults)} tries ({last.detail})", next_step=_RESUME
            )
        self._exhausted_in_a_row += 1
        if self._exhausted_in_a_row >= _GIVE_UP_AFTER:
            raise InstructorError(
                f"{where}: {self._exhausted_in_a_row} requests in a row failed {len(faults)} times each; last: {last}",
                next_step=_RESUME,
            )
        return text

    def _refuse_if_stopping(self) -> None:
        if self._is_stopping:
            raise ChatFailed("the run is being stopped")

    @property
    def _name(self) -> str:
        return f"{self.endpoint.model}@{self.endpoint.address}"


def _bounded(retry_after: float | None) -> float | None:
    """The wait that a server names, as far as it makes sense to wait: a quota of the day is given up on."""
    return None if retry_after is None else min(retry_after, _LONGEST_WAIT)


def _prompt_bytes(request: ChatRequest) -> int:
    schema = json.dumps(request.schema) if request.schema else ""
    return len(request.prompt.encode("utf-8", "surrogatepass")) + len(schema)
