"""Requests through the Batch API, against a real server of its protocol on loopback."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from batch_server import BatchServer, batch_server
from chat_server import Reply, completion

from taskdef.config import InstructorConfig
from taskdef.instruct.batch import Batches
from taskdef.instruct.batch_api import Pace
from taskdef.instruct.chat import ChatRequest, ChatResponse
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.openai_compatible import KEY_VARIABLE, OpenAIEndpoint
from taskdef.instruct.recorded import RecordedChat
from taskdef.instruct.sender import Sender

FAST = Pace(quiet=0.04, first_poll=0.01, longest_poll=0.02, creation_settles=0.3, first_contact=0.1, longest_silence=1)
PRICED = {"price_input": 2.0, "price_output": 4.0}


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-planted-secret")


def request(prompt: str = "p", index: int = 0, schema: dict[str, Any] | None = None) -> ChatRequest:
    return ChatRequest("generate", prompt, temperature=0.7, max_tokens=64, schema=schema, index=index)


def chat_over(
    server: BatchServer, ledger: Path | None = None, said: list[str] | None = None, pace: Pace = FAST, **settings: Any
) -> RecordedChat:
    config = InstructorConfig(**{"max_retries": 2, "batch": True, **settings})
    endpoint, held = OpenAIEndpoint("m", server.url, config=config), Ledger(ledger)
    batches = Batches(endpoint, held, pace=pace, say=(said if said is not None else []).append)
    return RecordedChat(Sender(endpoint, held, config, batches=batches, backoff_seconds=0.001))


Outcome = ChatResponse | list[ChatResponse] | BaseException


def run(chat: RecordedChat, *asked: ChatRequest, count: int = 1) -> list[Any]:
    async def all_of_them() -> list[Any]:
        try:
            ask: Callable[[ChatRequest], Any] = chat.complete
            if count > 1:
                return await asyncio.gather(*(chat.complete_many(each, count) for each in asked))
            return await asyncio.gather(*map(ask, asked), return_exceptions=True)
        finally:
            await chat.close()

    return asyncio.run(all_of_them())


def echo(body: dict[str, Any]) -> Reply:
    return completion(f"answer to {body['messages'][0]['content']}")


def test_requests_go_as_one_batch_and_each_gets_its_own_answer() -> None:
    asked = [request(f"prompt {number}") for number in range(50)]
    with batch_server(echo) as server:
        answers = run(chat_over(server), *asked)
    assert [answer.text for answer in answers] == [f"answer to prompt {number}" for number in range(50)]
    assert len(server.batches) == 1
    assert server.authorizations == {"Bearer sk-planted-secret"}
