"""The ledger: what is answered once is never asked again, survives a kill, and can be read by others."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskdef.config import InstructorConfig
from taskdef.errors import RunError
from taskdef.instruct.budget import Amount
from taskdef.instruct.chat import ChatFailed, ChatRequest, ChatResponse, Choice, Reply, Usage, request_keys
from taskdef.instruct.faults import Fault, FaultKind
from taskdef.instruct.ledger import Ledger, Settled
from taskdef.instruct.recorded import RecordedChat
from taskdef.instruct.sender import Sender
from taskdef.instruct.totals import LedgerTotals, PurposeTotals


class Counting:
    """An endpoint that counts its exchanges and fails where told to."""

    model = "m"

    def __init__(self, address: str = "here") -> None:
        self.address = address
        self.habits: dict[str, bool] = {}
        self.calls = 0

    def takes_count(self) -> bool:
        return True

    async def ask(self, request: ChatRequest, count: int) -> Reply:
        self.calls += 1
        number = self.calls
        await asyncio.sleep(0.01)
        if request.prompt == "fail":
            raise Fault(FaultKind.REJECTED, "no")
        if request.prompt == "once" and number == 1:
            raise Fault(FaultKind.UNAVAILABLE, "busy")
        return Reply(tuple(Choice(f"answer {number}", "stop") for _ in range(count)), Usage(5, 2 * count))

    async def close(self) -> None: ...


def recorded(endpoint: Counting, ledger: Ledger, *caches: Ledger) -> RecordedChat:
    return RecordedChat(Sender(endpoint, ledger, InstructorConfig(), backoff_seconds=0.001), caches)


def request(prompt: str = "p", index: int = 0, **changes: object) -> ChatRequest:
    return ChatRequest(
        **{"purpose": "answer", "prompt": prompt, "temperature": 0.7, "max_tokens": 9, "index": index} | changes
    )  # type: ignore[arg-type]


def key(asked: ChatRequest, address: str = "here") -> str:
    return request_keys(asked, 1, model="m", address=address)[0]


def test_a_recorded_call_is_not_made_again_not_even_by_a_later_process(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first, second = Counting(), Counting()
    texts = [asyncio.run(recorded(chat, Ledger(path)).complete(request())).text for chat in (first, first, second)]
    assert texts == ["answer 1"] * 3
    assert (first.calls, second.calls) == (1, 0)


def test_equal_requests_in_flight_are_sent_once_and_other_indices_are_other_requests() -> None:
    chat = Counting()
    ledger = recorded(chat, Ledger(None))

    async def several() -> list[ChatResponse]:
        return await asyncio.gather(*(ledger.complete(request(index=index)) for index in (0, 0, 1)))

    assert len({response.text for response in asyncio.run(several())}) == 2
    assert chat.calls == 2


def test_several_responses_are_one_request_and_as_many_recorded_calls() -> None:
    chat = Counting()
    ledger = recorded(chat, Ledger(None))
    assert len(asyncio.run(ledger.complete_many(request(), 3))) == 3
    assert len(asyncio.run(ledger.complete_many(request(), 5))) == 5  # only the two further ones are asked for
    assert asyncio.run(ledger.complete(request(index=4))).text == "answer 2"
    spent = ledger.spending()
    assert (chat.calls, spent.calls, spent.responses, spent.reused) == (2, 2, 5, 4)
    # two prompts of 5 tokens, five responses of 2
    assert (spent.prompt_tokens, spent.completion_tokens) == (10, 10)
    assert [row["prompt_tokens"] for row in ledger.ledger.calls()] == [5, 0, 0, 5, 0]


def test_a_failed_call_is_not_recorded_as_answered() -> None:
    chat = Counting()
    ledger = recorded(chat, Ledger(None))
    for _ in range(2):
        with pytest.raises(ChatFailed, match="rejected: no"):
            asyncio.run(ledger.complete(request("fail")))
    assert chat.calls == 2
    spent = ledger.spending()
    assert (spent.calls, spent.failed_tries, spent.faults) == (0, 2, {"rejected": 2})


def test_spending_covers_earlier_processes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    asyncio.run(recorded(Counting(), Ledger(path)).complete(request("once")))
    later = recorded(Counting(), Ledger(path))
    asyncio.run(later.complete(request("once")))
    asyncio.run(later.complete(request("other")))
    spent = later.spending()
    # two recorded calls of 5 and 2 tokens, one taken from the ledger; one failed try before the first process's call
    assert (spent.calls, spent.reused, spent.failed_tries) == (2, 1, 1)
    assert (spent.prompt_tokens, spent.completion_tokens) == (10, 4)


def test_what_another_run_paid_for_is_taken_over_and_counted_apart(tmp_path: Path) -> None:
    chat = Counting()
    first = recorded(chat, Ledger(None), Ledger(tmp_path / "cache.sqlite"))
    asyncio.run(first.complete_many(request(), 2))
    second = recorded(chat, Ledger(tmp_path / "ledger.sqlite"), Ledger(tmp_path / "cache.sqlite"))
    assert [response.text for response in asyncio.run(second.complete_many(request(), 3))] == ["answer 1"] * 2 + [
        "answer 2"
    ]
    spent = second.spending()
    assert (spent.calls, spent.responses, spent.from_cache, spent.completion_tokens) == (1, 1, 2, 2)
    alone = recorded(chat, Ledger(tmp_path / "ledger.sqlite"))  # the cache is not needed any more
    asyncio.run(alone.complete_many(request(), 3))
    assert chat.calls == 2


@pytest.mark.parametrize(
    "changes", [{"prompt": "q"}, {"temperature": 0.8}, {"max_tokens": 10}, {"schema": {"type": "object"}}, {"index": 1}]
)
def test_whatever_decides_the_answer_is_in_the_key(changes: dict[str, object]) -> None:
    values: dict[str, object] = {"prompt": "p", "index": 0}
    assert key(request(**(values | changes))) != key(request())  # type: ignore[arg-type]
    assert key(request(), "there") != key(request())
    assert key(request(purpose="generate")) == key(request())
    assert request_keys(request(), 3, model="m", address="here")[2] == key(request(index=2))


def test_every_call_can_be_read_with_all_that_was_asked_and_answered() -> None:
    ledger = recorded(Counting(), Ledger(None))
    asyncio.run(ledger.complete(request("once", index=3, schema={"type": "object"})))
    (row,) = ledger.ledger.calls()
    assert row.pop("seconds") > 0
    assert row.pop("finished_at") > 1e9
    assert row == {
        "key": key(request("once", index=3, schema={"type": "object"})),
        "purpose": "answer",
        "model": "m",
        "endpoint": "here",
        "prompt": "once",
        "parameters": {"temperature": 0.7, "max_tokens": 9, "schema": {"type": "object"}},
        "sample_index": 3,
        "response": "answer 2",
        "finish_reason": "stop",
        "prompt_tokens": 5,
        "cached_tokens": 0,
        "completion_tokens": 2,
        "cost": None,
        "tries": 2,
        "from_cache": False,
    }


WRITER = """
import asyncio, sys, itertools
from pathlib import Path
from taskdef.instruct.budget import Amount
from taskdef.instruct.chat import ChatRequest, ChatResponse
from taskdef.instruct.ledger import Ledger, Settled
async def write():
    ledger = Ledger(Path(sys.argv[1]))
    for i in itertools.count():
        request = ChatRequest("answer", "p", 0.7, 9, index=i)
        number = await ledger.open_request(request, 1, Amount(0.0, 50, 1))
        done = Settled("done", None, None, Amount(0.0, 7, 1), 0.1)
        await ledger.settle(number, done, {str(i): (request, ChatResponse("t", "stop"))}, model="m", address="e")
        print(i, flush=True)
asyncio.run(write())
"""


def test_a_kill_loses_no_recorded_call_and_others_can_read_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(20):
        writer.stdout.readline()
    assert Ledger(path, read_only=True).totals().responses >= 20
    writer.kill()
    printed = [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    ledger = Ledger(path)
    lost = ledger.close_lost_requests()
    totals = ledger.totals()
    assert totals.responses >= (printed[-1] + 1 if printed else 20)
    assert lost <= 1
    # the most that a lost one may have used is counted, not nothing
    assert totals.counted == Amount(0.0, 7 * totals.responses + 50 * lost, totals.responses + lost)
    assert ledger.get(["0"]) == {"0": ChatResponse("t", "stop")}


def test_totals_of_nothing_are_zero() -> None:
    assert Ledger(None).totals() == LedgerTotals()


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("these are no pages of a database" * 100, encoding="utf-8")
    with pytest.raises(RunError, match=r"ledger\.sqlite: file is not a database"):
        Ledger(path)


def test_a_ledger_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE calls (key TEXT)")
    with pytest.raises(RunError, match=r"form 0, this one writes 2\)\n  next: go on with the version that made it"):
        Ledger(path)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger._connection.execute(f"PRAGMA max_page_count = {ledger.execute('PRAGMA page_count')[0][0]}")
    done = Settled("done", None, None, Amount(), 0.1)

    async def settle() -> None:
        asked = request("p" * 100_000)
        await ledger.settle(1, done, {"k": (asked, ChatResponse("t", "stop"))}, model="m", address="e")

    with pytest.raises(RunError, match="full\n  next: free space"):
        asyncio.run(settle())
    assert sqlite3.connect(tmp_path / "ledger.sqlite").execute("SELECT COUNT(*) FROM calls").fetchone() == (0,)


def test_a_ledger_that_was_not_made_yet_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch()
    ledger = Ledger(path, read_only=True)
    assert (ledger.totals(), list(ledger.calls()), ledger.get(["k"])) == (LedgerTotals(), [], {})
    assert path.stat().st_size == 0


def test_a_ledger_in_a_folder_where_nobody_may_write_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    asyncio.run(ledger.copy({"k": (request("p"), ChatResponse("t", "stop"))}, model="m", address="e"))
    ledger.close()
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom taskdef.instruct.ledger import Ledger\n"
        "os.chdir(sys.argv[1])\nif not os.geteuid(): os.setuid(65534)\n"
        "print(Ledger(Path('ledger.sqlite'), read_only=True).totals().from_cache)"
    )
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    tmp_path.chmod(0o555)
    read = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    tmp_path.chmod(0o755)
    assert (read.stdout, read.returncode) == ("1\n", 0), read.stderr


def test_a_reader_beside_it_does_not_keep_a_ledger_from_being_finished(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger, reader = Ledger(path), Ledger(path, read_only=True)
    reader.totals()
    began = time.monotonic()
    ledger.leave_one_file()
    assert time.monotonic() - began < 5
    reader.close()
    ledger.leave_one_file()
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_by_purpose_tells_what_this_run_paid_and_what_is_unknown(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def answer(cost: float | None) -> ChatResponse:
        return ChatResponse("t", "stop", prompt_tokens=10, cached_tokens=4, completion_tokens=2, cost=cost, seconds=3.0)

    async def record() -> None:
        number = await ledger.open_request(request("p"), 2, Amount())
        rows = {"a": (request("p"), answer(0.5)), "b": (request("p", 1), answer(None))}
        await ledger.settle(number, Settled("done", None, None, Amount(), 3.0), rows, model="m", address="e")
        await ledger.copy({"c": (request("p", 2), answer(7.0))}, model="m", address="e")

    asyncio.run(record())
    (found,) = ledger.by_purpose()
    assert found == PurposeTotals("answer", 3, 1, 30, 12, 6, 0.5, 1, 3.0)
    assert found.cost_text() == "0.5000 and 1 unknown"
    assert PurposeTotals("answer", 2, 0, 0, 0, 0, 0.0, 2, 1.0).cost_text() == "unknown"
    assert PurposeTotals("answer", 2, 2, 0, 0, 0, 0.0, 0, 1.0).cost_text() == ""


@pytest.mark.parametrize(
    ("totals", "text"),
    [
        (
            LedgerTotals(requests=3, failed_tries=3, counted=Amount(0.0, 900, 3)),
            "cost unknown: no price for this model",
        ),
        (LedgerTotals(requests=3, failed_tries=3, counted=Amount(0.0, 0, 3)), "0.0000 usd"),  # none was billed
        (
            LedgerTotals(requests=3, failed_tries=3, counted=Amount(0.2, 900, 3)),
            "0.0000 usd (up to 0.2000 more for answers that were lost)",
        ),
    ],
)
def test_the_cost_of_answers_that_never_came(totals: LedgerTotals, text: str) -> None:
    assert totals.cost_text() == text


def test_a_ledger_in_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"answers\.sqlite: cannot be made: File exists\n  next: name a folder"):
        Ledger(tmp_path / "file" / "answers.sqlite")
