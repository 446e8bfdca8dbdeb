"""How a baseline asks the instructor for one of its steps: a template, a schema, a reading, and a failure by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from taskdef.instruct.chat import ChatFailed, ChatResponse
from taskdef.instruct.draft_form import ParseFailure
from taskdef.instruct.form import DRAFT_SCHEMA, OUTPUT_SCHEMA
from taskdef.instruct.lists import read_items
from taskdef.instruct.parse import read_draft, read_output
from taskdef.instruct.protocol import Draft, DraftFailed, Instructor
from taskdef.instruct.rendering import render
from taskdef.instruct.thinking import without_thinking
from taskdef.records import DropReason, TaskDefinition

ITEMS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "string"}}},
    "required": ["items"],
    "additionalProperties": False,
}
_DETAIL = 300

Key = TypeVar("Key")
Value = TypeVar("Value")
Item = TypeVar("Item")


class Steps:
    """Asks for steps. A purpose (instruct/writing.py) is also the name of its template."""

    def __init__(self, definition: TaskDefinition, instructor: Instructor, *, temperature: float) -> None:
        self._definition = definition
        self._instructor = instructor
        self._temperature = temperature

    async def response(
        self, purpose: str, schema: dict[str, Any], *, index: int = 0, temperature: float | None = None, **values: Any
    ) -> ChatResponse:
        """The response to the purpose's template with ``values``. Raises DraftFailed where there is none."""
        try:
            return await self._instructor.complete(
                self._definition,
                purpose,
                render(purpose, definition=self._definition, **values),
                schema=schema,
                temperature=self._temperature if temperature is None else temperature,
                index=index,
            )
        except ChatFailed as failure:
            raise DraftFailed(DropReason.INSTRUCTOR_FAILED, f"{purpose}: {failure}") from None

    async def items(self, purpose: str, *, index: int = 0, **values: Any) -> list[str]:
        """A list of different texts. Raises DraftFailed where none can be read."""
        response = await self.response(purpose, ITEMS_SCHEMA, index=index, **values)
        if items := read_items(response.text, cut=is_cut(response)):
            return items
        raise unreadable(purpose, "no list", response)

    async def draft(self, purpose: str, *, index: int = 0, **values: Any) -> Draft:
        """An input and an output. Raises DraftFailed where they cannot be read."""
        response = await self.response(purpose, DRAFT_SCHEMA, index=index, **values)
        reading = read_draft(response.text, cut=is_cut(response))
        if isinstance(reading, ParseFailure):
            raise unreadable(purpose, reading.value, response)
        return Draft(input=reading[0], solution=reading[1])

    async def output(self, purpose: str, *, temperature: float | None = None, **values: Any) -> str:
        """An output alone; the whole response where it is no JSON, since its answer is read later. Raises DraftFailed
        where the token limit cut it, as ``#### 12`` may be the beginning of ``#### 125``."""
        response = await self.response(purpose, OUTPUT_SCHEMA, temperature=temperature, **values)
        if is_cut(response):
            raise unreadable(purpose, ParseFailure.CUT.value, response)
        if output := read_output(response.text) or without_thinking(response.text).text.strip():
            return output
        raise unreadable(purpose, ParseFailure.EMPTY.value, response)


class Shared(Generic[Key, Value]):
    """Answers that several drafts are written from: each is asked for once, by whichever draft needs it first.

    No task of its own: a draft that is cancelled while it asks leaves the asking to the next.
    """

    def __init__(self, ask: Callable[[Key], Awaitable[Value]]) -> None:
        self._ask = ask
        self._locks: dict[Key, asyncio.Lock] = {}
        self._known: dict[Key, Value | DraftFailed] = {}

    async def get(self, key: Key) -> Value:
        """The answer. Raises DraftFailed, again for every draft, where there is none."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._known:
                try:
                    self._known[key] = await self._ask(key)
                except DraftFailed as failure:
                    self._known[key] = failure
        known = self._known[key]
        if isinstance(known, DraftFailed):
            raise DraftFailed(known.reason, known.detail)
        return known


def nth(items: Sequence[Item], place: int, purpose: str, asked: int) -> Item:
    """One item of a list that was asked for. Raises DraftFailed where the list is too short."""
    if place < len(items):
        return items[place]
    raise DraftFailed(DropReason.UNPARSEABLE, f"{purpose}: {len(items)} came where {asked} were asked for")


def unreadable(purpose: str, why: str, response: ChatResponse) -> DraftFailed:
    """The failure to read a step's response, with its beginning."""
    return DraftFailed(DropReason.UNPARSEABLE, f"{purpose}: {why}: {response.text[:_DETAIL]}")


def is_cut(response: ChatResponse) -> bool:
    """Whether the token limit ended it."""
    return response.finish_reason == "length"
