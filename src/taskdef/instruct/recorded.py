"""A chat model behind a ledger: a call that was answered once is never made again."""

from __future__ import annotations

import asyncio

from taskdef.instruct.chat import ChatModel, ChatRequest, ChatResponse, request_key
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.protocol import Spending


class RecordedChat:
    """Looks into the ledger first, asks the model otherwise, and records before it answers."""

    def __init__(self, chat: ChatModel, ledger: Ledger) -> None:
        self.chat = chat
        self.ledger = ledger
        self._reused = 0
        self._failed_before = ledger.totals().failed_tries
        self._pending: dict[str, asyncio.Task[ChatResponse]] = {}

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer a request; equal requests that are in flight at the same time are sent once."""
        key = request_key(self.chat, request)
        known = self.ledger.get(key)
        if known is not None:
            self._reused += 1
            return known
        task = self._pending.get(key)
        if task is None:
            task = asyncio.ensure_future(self._send(key, request))
            self._pending[key] = task
            task.add_done_callback(lambda _: self._pending.pop(key, None))
        return await task

    def spending(self) -> Spending:
        """Calls and tokens of the whole run, as the ledger has them; reuse is this process's own."""
        totals = self.ledger.totals()
        return Spending(
            calls=totals.calls,
            reused=self._reused,
            failed_tries=self._failed_before + self.chat.failed_tries,
            prompt_tokens=totals.prompt_tokens,
            completion_tokens=totals.completion_tokens,
        )

    async def close(self) -> None:
        """Close the model and the ledger."""
        await self.chat.close()
        self.ledger.close()

    async def _send(self, key: str, request: ChatRequest) -> ChatResponse:
        response = await self.chat.complete(request)
        self.ledger.put(key, request, response, model=self.chat.model, endpoint=self.chat.endpoint)
        return response
