"""The ledger: what is answered once is never asked again, survives a kill, and can be read by others."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from taskdef.config import digest
from taskdef.errors import RunError
from taskdef.instruct.chat import ChatFailed, ChatRequest, ChatResponse, request_fields, request_key
from taskdef.instruct.ledger import Ledger, LedgerTotals
from taskdef.instruct.recorded import RecordedChat


class Counting:
    """A chat model that counts its calls and fails where told to."""

    def __init__(self, endpoint: str = "here") -> None:
        self.model = "m"
        self.endpoint = endpoint
        self.failed_tries = 0
        self.calls = 0

    async def complete(self, request: ChatRequest) -> ChatResponse:
        self.calls += 1
        number = self.calls
        await asyncio.sleep(0.01)
        if request.prompt == "fail":
            self.failed_tries += 1
            raise ChatFailed("no")
        return ChatResponse(f"answer {number}", "stop", prompt_tokens=5, completion_tokens=2, tries=2)

    async def close(self) -> None: ...


def request(prompt: str = "p", index: int = 0, **changes: object) -> ChatRequest:
    return ChatRequest(
        **{"purpose": "answer", "prompt": prompt, "temperature": 0.7, "max_tokens": 9, "index": index} | changes
    )  # type: ignore[arg-type]


def test_a_recorded_call_is_not_made_again_not_even_by_a_later_process(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first, second = Counting(), Counting()
    texts = [asyncio.run(RecordedChat(chat, Ledger(path)).complete(request())).text for chat in (first, first, second)]
    assert texts == ["answer 1"] * 3
    assert (first.calls, second.calls) == (1, 0)


def test_equal_requests_in_flight_are_sent_once_and_other_indices_are_other_requests() -> None:
    chat = Counting()
    recorded = RecordedChat(chat, Ledger(None))

    async def several() -> list[ChatResponse]:
        return await asyncio.gather(*(recorded.complete(request(index=index)) for index in (0, 0, 1)))

    assert len({response.text for response in asyncio.run(several())}) == 2
    assert chat.calls == 2


def test_a_failed_call_is_not_recorded() -> None:
    chat = Counting()
    recorded = RecordedChat(chat, Ledger(None))
    for _ in range(2):
        with pytest.raises(ChatFailed):
            asyncio.run(recorded.complete(request("fail")))
    assert chat.calls == 2
    assert recorded.spending().calls == 0
    assert recorded.spending().failed_tries == 2


def test_spending_covers_earlier_processes(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    asyncio.run(RecordedChat(Counting(), Ledger(ledger)).complete(request()))
    recorded = RecordedChat(Counting(), Ledger(ledger))
    asyncio.run(recorded.complete(request()))
    asyncio.run(recorded.complete(request("other")))
    spent = recorded.spending()
    # two recorded calls of 5 and 2 tokens, one taken from the ledger; one failed try before the first process's call
    assert (spent.calls, spent.reused, spent.failed_tries) == (2, 1, 1)
    assert (spent.prompt_tokens, spent.completion_tokens) == (10, 4)


@pytest.mark.parametrize(
    "changes", [{"prompt": "q"}, {"temperature": 0.8}, {"max_tokens": 10}, {"schema": {"type": "object"}}, {"index": 1}]
)
def test_whatever_decides_the_answer_is_in_the_key(changes: dict[str, object]) -> None:
    values: dict[str, object] = {"prompt": "p", "index": 0}
    assert request_key(Counting(), request(**(values | changes))) != request_key(Counting(), request())  # type: ignore[arg-type]
    assert request_key(Counting("there"), request()) != request_key(Counting(), request())
    assert request_key(Counting(), request(purpose="generate")) == request_key(Counting(), request())


def test_the_recorded_request_is_what_the_key_is_made_of() -> None:
    chat, ledger = Counting(), Ledger(None)
    asyncio.run(RecordedChat(chat, ledger).complete(request(schema={"type": "object"})))
    ((key, recorded),) = ledger._connection.execute("SELECT key, request FROM calls").fetchall()
    fields = request_fields(request(schema={"type": "object"}), model="m", endpoint="here")
    assert (json.loads(recorded), key) == (fields, digest(fields))


def test_a_kill_loses_no_recorded_call_and_others_can_read_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    script = """
import sys, itertools
from pathlib import Path
from taskdef.instruct.chat import ChatRequest, ChatResponse
from taskdef.instruct.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for i in itertools.count():
    ledger.put(str(i), ChatRequest("answer", "p", 0.7, 9, index=i), ChatResponse("t", "stop"), model="m", endpoint="e")
    print(i, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(20):
        writer.stdout.readline()
    assert Ledger(path).totals().calls >= 20
    writer.kill()
    printed = [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    ledger = Ledger(path)
    assert ledger.totals().calls >= (printed[-1] + 1 if printed else 20)
    assert ledger.get("0") == ChatResponse("t", "stop")


def test_totals_of_nothing_are_zero() -> None:
    assert Ledger(None).totals() == LedgerTotals(0, 0, 0, 0)


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("these are no pages of a database" * 100, encoding="utf-8")
    with pytest.raises(RunError, match=r"ledger\.sqlite: file is not a database"):
        Ledger(path)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger._connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(RunError, match="full\n  next: free space"):
        ledger.put("k", request("p" * 100_000), ChatResponse("t", "stop"), model="m", endpoint="e")
    assert sqlite3.connect(tmp_path / "ledger.sqlite").execute("SELECT COUNT(*) FROM calls").fetchone() == (0,)
