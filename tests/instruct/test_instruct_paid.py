"""What is paid for is kept: answers on their way when something else goes wrong, or when a person stops the run."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chat_server import Reply, chat_server, completion, fault

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError, RunError, Stopped
from taskdef.instruct.chat import ChatRequest
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.openai_compatible import COUNT, KEY_VARIABLE, OpenAIEndpoint
from taskdef.instruct.recorded import RecordedChat
from taskdef.instruct.sender import Sender
from taskdef.stopping import answers_kept
from taskdef.terminal import going_on_with


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def request(index: int = 0, schema: dict[str, Any] | None = None) -> ChatRequest:
    return ChatRequest("answer", "Write.", temperature=0.7, max_tokens=64, schema=schema, index=index)


def client(url: str, path: Path) -> RecordedChat:
    config = InstructorConfig(max_retries=1, timeout_seconds=5)
    return RecordedChat(Sender(OpenAIEndpoint("m", url, config=config), Ledger(path), config, backoff_seconds=0.001))


def slow(text: str = "x") -> Reply:
    reply = completion(text)
    reply.delay = 0.3
    return reply


def recorded(path: Path) -> int:
    return Ledger(path, read_only=True).totals().responses


def test_votes_asked_one_by_one_are_kept_where_one_of_them_ends_the_run(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with chat_server(lambda body, number: fault(401) if number == 2 else slow()) as server:
        chat = client(server.url, ledger)
        chat.sender.endpoint.habits[COUNT] = False

        async def vote() -> None:
            try:
                await chat.complete_many(request(), 4)
            finally:
                await chat.close()

        with pytest.raises(InstructorError, match="access refused"):
            asyncio.run(vote())
    assert recorded(ledger) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_answers_under_way_and_sends_nothing_new(tmp_path: Path, number: signal.Signals) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with chat_server(lambda body, _: slow()) as server:
        chat = client(server.url, ledger)
        chat.sender.limit.most = chat.sender.limit.limit = 3

        async def work() -> None:
            with answers_kept(lambda: chat.in_flight):
                try:
                    await asyncio.gather(*(chat.complete(request(index)) for index in range(9)))
                finally:
                    await chat.close()

        def stop_when_asked() -> None:
            while len(server.requests) < 3:
                threading.Event().wait(0.005)
            os.kill(os.getpid(), number)

        threading.Thread(target=stop_when_asked).start()
        with pytest.raises(Stopped), going_on_with(tmp_path):
            asyncio.run(work())
        assert (len(server.requests), recorded(ledger)) == (3, 3)
    assert Ledger(ledger).close_lost_requests() == 0


def test_an_answer_that_comes_as_everything_is_closed_is_kept(tmp_path: Path) -> None:
    """What it taught about the endpoint is written first, and the process must not end between the two."""
    ledger = tmp_path / "ledger.sqlite"
    with chat_server(lambda body, number: slow()) as server:
        chat = client(server.url, ledger)
        learn = chat.ledger.learn

        async def learn_and_close(*arguments: Any) -> None:
            closing.append(asyncio.ensure_future(chat.close()))
            await asyncio.sleep(0)
            await learn(*arguments)

        closing: list[asyncio.Future[None]] = []
        chat.ledger.learn = learn_and_close  # type: ignore[method-assign]

        async def ask() -> None:
            await asyncio.gather(chat.complete(request(schema={"type": "object"})), return_exceptions=True)
            await asyncio.gather(*closing)

        asyncio.run(ask())
    assert recorded(ledger) == 1


def test_what_the_ledger_cannot_hold_takes_no_other_answer_along(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    learned = [("a", {"x": True}), ("b", {"x": 1 << 80}), ("c", {"x": True})]

    async def write() -> list[BaseException | None]:
        async with asyncio.timeout(5):
            return await asyncio.gather(*(ledger.learn(*each) for each in learned), return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(write())] == [type(None), OverflowError, type(None)]
    assert (ledger.learned("a"), ledger.learned("b"), ledger.learned("c")) == ({"x": True}, {}, {"x": True})


def test_a_commit_that_ctrl_c_breaks_off_is_made_when_the_ledger_closes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    transact = ledger._transact

    def interrupted(groups: Any) -> None:
        ledger._transact = transact  # type: ignore[method-assign]
        raise KeyboardInterrupt

    ledger._transact = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(ledger.learn("a", {"x": True}))
    ledger.close()
    assert Ledger(path).learned("a") == {"x": True}


def test_a_ledger_that_cannot_be_written_is_an_error_for_all_who_wait(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger._connection.execute("PRAGMA query_only=ON")

    async def write() -> list[BaseException | None]:
        return await asyncio.gather(*(ledger.learn(name, {"x": True}) for name in "ab"), return_exceptions=True)

    assert all(isinstance(outcome, RunError) for outcome in asyncio.run(write()))
