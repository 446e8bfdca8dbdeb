"""How a step fails, and answers that several drafts share."""

import asyncio
from typing import Any

import pytest
from synthesizer_runs import SUMS

from taskdef.instruct.chat import ChatFailed, ChatResponse
from taskdef.instruct.protocol import Draft, DraftFailed
from taskdef.records import DropReason
from taskdef.synthesize.asking import Shared, Steps

VALUES = {
    "draft": ("constrain", {"context": "c", "seed": "s", "label": ""}),
    "items": ("contexts", {"count": 3}),
    "output": ("solve", {"question": "1 + 1?"}),
}


class Endpoint:
    """An instructor that gives one response, or fails."""

    name = "endpoint"
    labels_by_construction = False

    def __init__(self, text: str | ChatFailed, finish_reason: str = "stop") -> None:
        self._text = text
        self._finish_reason = finish_reason

    async def complete(self, definition: Any, purpose: str, prompt: str, **_: Any) -> ChatResponse:
        if isinstance(self._text, ChatFailed):
            raise self._text
        return ChatResponse(self._text, self._finish_reason)


def ask(kind: str, text: str | ChatFailed, finish_reason: str = "stop") -> Any:
    purpose, values = VALUES[kind]
    steps = Steps(SUMS, Endpoint(text, finish_reason), temperature=0.7)  # type: ignore[arg-type]
    return asyncio.run(getattr(steps, kind)(purpose, **values))


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("draft", '{"input": "a", "output": "b"}', Draft("a", "b")),
        ("items", '{"items": ["a"]}', ["a"]),
        ("output", '{"output": "#### 2"}', "#### 2"),
        ("output", "<think>hm</think>It is #### 2", "It is #### 2"),
    ],
)
def test_what_a_step_gives(kind: str, text: str, wanted: object) -> None:
    assert ask(kind, text) == wanted


@pytest.mark.parametrize("kind", VALUES)
def test_a_request_that_failed_for_good_is_the_instructors_failure(kind: str) -> None:
    with pytest.raises(DraftFailed) as failure:
        ask(kind, ChatFailed("HTTP 500 (9 tries)"))
    assert failure.value.reason is DropReason.INSTRUCTOR_FAILED
    assert failure.value.detail == f"{VALUES[kind][0]}: HTTP 500 (9 tries)"


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("draft", '{"input": "a", "output": "#### 1', "constrain: cut at the token limit: "),
        ("items", '{"items": ["a', "contexts: no list: "),
        ("output", '{"output": "#### 1"}', "solve: cut at the token limit: "),
    ],
)
def test_what_the_token_limit_cut_is_unreadable(kind: str, text: str, why: str) -> None:
    with pytest.raises(DraftFailed) as failure:
        ask(kind, text, "length")
    assert failure.value.reason is DropReason.UNPARSEABLE
    assert failure.value.detail.startswith(why)


def test_drafts_that_share_an_answer_ask_for_it_once() -> None:
    asked: list[str] = []

    async def answer(key: str) -> str:
        asked.append(key)
        await asyncio.sleep(0)
        if key == "bad":
            raise DraftFailed(DropReason.UNPARSEABLE, "no list")
        return key.upper()

    async def run() -> list[object]:
        shared = Shared(answer)
        return list(await asyncio.gather(*map(shared.get, ["a", "b", "a", "bad", "bad"]), return_exceptions=True))

    found = asyncio.run(run())
    assert found[:3] == ["A", "B", "A"]
    assert [str(failure) for failure in found[3:]] == ["unparseable: no list"] * 2
    assert sorted(asked) == ["a", "b", "bad"]


def test_a_draft_that_is_cancelled_leaves_the_asking_to_the_next() -> None:
    asked: list[str] = []

    async def answer(key: str) -> str:
        asked.append(key)
        await asyncio.sleep(0.01)
        return key

    async def run() -> str:
        shared = Shared(answer)
        first, second = asyncio.create_task(shared.get("a")), asyncio.create_task(shared.get("a"))
        await asyncio.sleep(0.001)
        first.cancel()
        return await second

    assert asyncio.run(run()) == "a"
    assert asked == ["a", "a"]
