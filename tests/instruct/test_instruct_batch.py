"""Requests through the Batch API, against a real server of its protocol on loopback."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from batch_server import BatchServer, batch_server
from chat_server import Reply, completion, fault

from taskdef.config import InstructorConfig
from taskdef.errors import BudgetReached, InstructorError
from taskdef.instruct.batch import Batches
from taskdef.instruct.batch_api import Pace
from taskdef.instruct.chat import ChatFailed, ChatRequest, ChatResponse, Usage
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.load import load_instructor
from taskdef.instruct.openai_compatible import KEY_VARIABLE, OpenAIEndpoint
from taskdef.instruct.prices import Prices
from taskdef.instruct.recorded import RecordedChat
from taskdef.instruct.sender import Sender
from taskdef.instruct.stream import stream_labelled
from taskdef.records import Drop

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


def several(body: dict[str, Any]) -> Reply:
    """Takes n, as OpenAI does: 7 tokens of prompt, 3 for each choice."""
    reply = echo(body)
    choice = reply.body["choices"][0]
    count = body.get("n", 1)
    reply.body["choices"] = [choice | {"index": index} for index in range(count)]
    reply.body["usage"] = {"prompt_tokens": 7, "completion_tokens": 3 * count, "total_tokens": 7 + 3 * count}
    return reply


def test_votes_on_one_draft_are_one_line_of_the_file() -> None:
    with batch_server(several) as server:
        answers = run(chat_over(server), request("a"), request("b"), count=4)
    assert [len(each) for each in answers] == [4, 4]
    assert sorted(server.prompts()) == ["a", "b"]
    assert [body["n"] for body in server.asked] == [4, 4]


@pytest.mark.parametrize("refuses", [True, False])
def test_an_endpoint_that_takes_no_n_is_asked_one_by_one_from_the_next_batch_on(refuses: bool) -> None:
    def one_choice(body: dict[str, Any]) -> Reply:
        return fault(400, "n must be 1") if refuses and "n" in body else echo(body)

    with batch_server(one_choice) as server:
        chat = chat_over(server)
        answers = run(chat, request("a"), request("b"), count=3)
    assert [len(each) for each in answers] == [3, 3]
    assert chat.sender.endpoint.habits["takes_count"] is False
    assert len(server.batches) == 2
    singles = [body for body in server.asked if "n" not in body]
    assert len(singles) == (6 if refuses else 4)  # where n is ignored, the first answer counts


def test_a_refused_schema_is_left_out_in_the_next_batch(tmp_path: Path) -> None:
    def no_schemas(body: dict[str, Any]) -> Reply:
        return fault(400, "response_format is not supported") if "response_format" in body else echo(body)

    with batch_server(no_schemas) as server:
        path = tmp_path / "ledger.sqlite"
        answers = run(chat_over(server, path), *(request(str(n), schema={"type": "object"}) for n in range(5)))
    assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(5)]
    assert len(server.batches) == 2
    totals = Ledger(path, read_only=True).totals()
    assert (totals.requests, totals.failed_tries) == (5, 0)  # no fault of the requests


def test_lines_that_fail_are_asked_again_and_counted(tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def partly(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][0]["content"]
        seen[prompt] = seen.get(prompt, 0) + 1
        if seen[prompt] == 1 and prompt in ("1", "4"):
            return fault(429 if prompt == "1" else 500)
        return fault(400, "too much context") if prompt == "2" else echo(body)

    with batch_server(partly) as server:
        path = tmp_path / "ledger.sqlite"
        answers = run(chat_over(server, path), *(request(str(n)) for n in range(6)))
    assert isinstance(answers[2], ChatFailed)
    assert str(answers[2]) == "rejected: 400: too much context"
    assert [answers[n].text for n in (0, 1, 3, 4, 5)] == [f"answer to {n}" for n in (0, 1, 3, 4, 5)]
    assert Ledger(path, read_only=True).totals().faults == {"rate_limited": 1, "rejected": 1, "server_error": 1}
    assert [server.prompts().count(str(n)) for n in range(6)] == [1, 2, 1, 1, 2, 1]


def test_what_an_expired_batch_did_not_get_to_goes_into_another_and_costs_nothing(tmp_path: Path) -> None:
    with batch_server(echo, share=0.6, end=lambda number: "completed" if number else "expired") as server:
        path = tmp_path / "ledger.sqlite"
        answers = run(chat_over(server, path, **PRICED), *(request(str(n)) for n in range(10)))
    assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(10)]
    assert len(server.asked) == 10
    totals = Ledger(path, read_only=True).totals()
    assert totals.faults == {"expired": 4}
    # 10 answers of 7 tokens read at 2 and 3 written at 4 dollars a million, and half of that in a batch
    assert totals.cost == pytest.approx(10 * (7 * 2 + 3 * 4) / 2 / 1e6)
    assert totals.counted.usd == pytest.approx(totals.cost)


def test_a_batch_that_was_cancelled_at_the_server_stops_the_run_and_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with batch_server(echo, share=0.5, end=lambda number: "completed" if number else "cancelled") as server:
        first = run(chat_over(server, path), *(request(str(n)) for n in range(4)))
        stopped = [answer for answer in first if isinstance(answer, InstructorError)]
        assert [str(error) for error in stopped] == [
            f"openai:m@{server.url}: a batch was cancelled at the server; the answers it had are kept\n"
            "  next: repeat the same command to submit the rest again"
        ] * 2
        again = run(chat_over(server, path), *(request(str(n)) for n in range(4)))
    assert [answer.text for answer in again] == [f"answer to {n}" for n in range(4)]
    assert sorted(server.prompts()) == ["0", "1", "2", "3"]


def test_a_line_that_the_validation_names_is_rejected_alone() -> None:
    def bad_lines(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        places = [n for n, line in enumerate(lines, 1) if line["body"]["messages"][0]["content"] == "2"]
        return [{"code": "invalid_value", "message": "bad prompt", "line": place} for place in places]

    with batch_server(echo, problems=bad_lines) as server:
        answers = run(chat_over(server), *(request(str(n)) for n in range(5)))
    assert isinstance(answers[2], ChatFailed)
    assert str(answers[2]) == "rejected: invalid_value: bad prompt (line 3)"
    assert [answers[n].text for n in (0, 1, 3, 4)] == [f"answer to {n}" for n in (0, 1, 3, 4)]


def test_a_batch_that_is_refused_as_a_whole_says_why(tmp_path: Path) -> None:
    problem = {"code": "model_not_found", "message": "The model 'm' does not support the batch API.", "line": None}
    with batch_server(echo, problems=lambda lines: [problem]) as server:
        path = tmp_path / "ledger.sqlite"
        (error,) = run(chat_over(server, path, **PRICED), request())
    assert str(error) == (
        f"openai:m@{server.url}: the batch batch_0 of 1 requests was refused: "
        "model_not_found: The model 'm' does not support the batch API.\n"
        "  next: correct the model's name or instruct.* with --set, or leave --batch out"
    )
    totals = Ledger(path, read_only=True).totals()
    assert (totals.failed_tries, totals.counted.usd, totals.in_batches) == (1, 0, 0)


def test_where_the_servers_queue_has_no_room_batches_get_smaller_and_wait_for_each_other() -> None:
    def at_most_three(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}] * (len(lines) > 3)

    said: list[str] = []
    with batch_server(echo, problems=at_most_three) as server:
        answers = run(chat_over(server, said=said), *(request(str(n)) for n in range(10)))
    assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(10)]
    sizes = [len(server.files[batch["input_file_id"]].splitlines()) for batch in server.batches.values()]
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert any("going on with 5 requests at a time" in text for text in said)


@pytest.mark.parametrize("limit", [{"most_requests": 4}, {"most_bytes": 750}])
def test_more_than_a_batch_takes_goes_into_several(limit: dict[str, int]) -> None:
    pace = Pace(**{**vars(FAST), **limit})
    with batch_server(echo) as server:
        answers = run(chat_over(server, pace=pace), *(request(str(n)) for n in range(10)))
    assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(10)]
    files = [server.files[batch["input_file_id"]] for batch in server.batches.values()]
    assert sorted(len(file.splitlines()) for file in files) == [2, 4, 4]
    assert max(map(len, files)) <= pace.most_bytes


def test_a_line_that_cannot_be_read_is_a_fault_of_its_request_alone(tmp_path: Path) -> None:
    def half_a_file(method: str, path: str, number: int) -> Reply | None:
        name = "file-output_file_id-batch_0"
        if path == "/files/*/content" and number == 0:
            lines = server.files[name].splitlines(keepends=True)
            server.files[name] = b"".join([*lines[:-1], lines[-1][:40]])
        return None

    path = tmp_path / "ledger.sqlite"
    with batch_server(echo) as server:
        server.trouble = half_a_file
        answers = run(chat_over(server, path), *(request(str(n)) for n in range(4)))
    assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(4)]
    totals = Ledger(path, read_only=True).totals()
    assert totals.faults == {"no_completion": 1}
    assert len(server.asked) == 5


def test_a_file_that_is_cut_on_its_way_is_fetched_again_before_anything_is_paid_for_twice() -> None:
    whole: dict[str, bytes] = {}

    def cut_once(method: str, path: str, number: int) -> Reply | None:
        name = "file-output_file_id-batch_0"
        if path == "/files/*/content":
            whole.setdefault(name, server.files[name])
            server.files[name] = whole[name] if number else whole[name][: len(whole[name]) // 2]
        return None

    with batch_server(echo) as server:
        server.trouble = cut_once
        answers = run(chat_over(server), *(request(str(n)) for n in range(4)))
    assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(4)]
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "path", "message", "next_step"),
    [
        (404, "/files", "cannot upload a file (404): no", "this endpoint has no Batch API: leave --batch out"),
        (401, "/files", "cannot upload a file (401): no", "check the key in OPENAI_API_KEY: it needs the right to"),
        (400, "/batches", "cannot create a batch (400): no", "correct the settings, or leave --batch out"),
    ],
)
def test_a_refusal_of_the_batch_api_says_what_to_do(
    tmp_path: Path, status: int, path: str, message: str, next_step: str
) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with batch_server(echo, trouble=lambda method, at, number: fault(status) if at == path else None) as server:
        (error,) = run(chat_over(server, ledger, **PRICED), request())
    assert isinstance(error, InstructorError)
    assert error.message == f"openai:m@{server.url}: {message}"
    assert error.next_step is not None
    assert error.next_step.startswith(next_step)
    assert Ledger(ledger, read_only=True).totals().counted.usd == 0


def test_an_endpoint_that_nobody_answers_at_is_given_up_soon() -> None:
    with batch_server(echo) as server:
        pass
    (error,) = run(chat_over(server), request())
    assert isinstance(error, InstructorError)
    assert "cannot upload a file; last: " in error.message


@pytest.mark.parametrize("status", [500, 200])
def test_a_batch_whose_creation_was_not_seen_is_found_and_not_created_again(status: int) -> None:
    asked = [request(str(n)) for n in range(3)]
    with batch_server(echo, loses_first_reply=status) as server:
        answers = run(chat_over(server), *asked)
    assert [answer.text for answer in answers] == ["answer to 0", "answer to 1", "answer to 2"]
    assert len(server.batches) == 1


def test_weak_minutes_of_the_server_are_no_faults_of_the_requests(tmp_path: Path) -> None:
    def weak(method: str, path: str, number: int) -> Reply | None:
        if number % 2 == 0:
            return fault(503) if number % 4 else Reply(b"<html>busy</html>", 502)
        return None

    path = tmp_path / "ledger.sqlite"
    with batch_server(echo, looks=3, trouble=weak) as server:
        answers = run(
            chat_over(server, path, pace=Pace(**{**vars(FAST), "first_contact": 9, "longest_silence": 9})), request("a")
        )
    assert answers[0].text == "answer to a"
    totals = Ledger(path, read_only=True).totals()
    assert (totals.requests, totals.failed_tries, len(server.asked)) == (1, 0, 1)


def test_a_server_that_falls_silent_keeps_its_batch_for_the_next_process(tmp_path: Path) -> None:
    path, said = tmp_path / "ledger.sqlite", []
    pace = Pace(**{**vars(FAST), "longest_silence": 0.1})
    with batch_server(echo) as server:
        server.trouble = lambda method, at, number: fault(503) if at == "/batches/*" else None
        (error,) = run(chat_over(server, path, said, pace, **PRICED), request("a"))
        assert isinstance(error, InstructorError)
        assert error.message == f"openai:m@{server.url}: cannot look at batch_0; last: no"
        assert "nothing is submitted twice" in str(error.next_step)
        assert "1 requests go on at the server in 1 batches: batch_0; the same command collects" in said[-1]
        assert Ledger(path, read_only=True).totals().in_batches == 1
        server.trouble = lambda method, at, number: None
        (answer,) = run(chat_over(server, path, **PRICED), request("a"))
    assert answer.text == "answer to a"
    assert (len(server.batches), len(server.asked)) == (1, 1)
    totals = Ledger(path, read_only=True).totals()
    assert (totals.calls, totals.in_batches, totals.lost) == (1, 0, 0)
    assert totals.counted.usd == pytest.approx(totals.cost)


def test_ctrl_c_waits_for_nobody_and_the_same_command_collects(tmp_path: Path) -> None:
    path, said = tmp_path / "ledger.sqlite", []

    async def stopped(chat: RecordedChat) -> float:
        asked = [asyncio.ensure_future(chat.complete(request(str(n)))) for n in range(5)]
        while not any("in_progress" in text for text in said):
            await asyncio.sleep(0.01)
        for task in asked:
            task.cancel()
        assert chat.in_flight == 0
        began = asyncio.get_running_loop().time()
        await chat.close()
        return asyncio.get_running_loop().time() - began

    with batch_server(echo, looks=10_000) as server:
        assert asyncio.run(stopped(chat_over(server, path, said))) < 1
        assert said[0] == (
            "batch batch_0: 5 requests submitted; answers come within a day. It goes on when this is stopped (Ctrl-C), "
            "and the same command collects it"
        )
        assert said[-1] == (
            "5 requests go on at the server in 1 batches: batch_0; the same command collects their answers and submits "
            "nothing twice"
        )
        totals = Ledger(path, read_only=True).totals()
        assert str(totals).startswith("0 instructor calls, 5 in batches whose answers are still to come, ")
        server.finish_soon()
        answers = run(chat_over(server, path), *(request(str(n)) for n in range(5)))
    assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(5)]
    assert len(server.asked) == 5


def test_requests_that_were_not_submitted_yet_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    async def stopped(chat: RecordedChat) -> None:
        task = asyncio.ensure_future(chat.complete(request()))
        await asyncio.sleep(0.02)
        task.cancel()
        await chat.close()

    with batch_server(echo) as server:
        asyncio.run(stopped(chat_over(server, path)))
    assert not server.files
    assert Ledger(path, read_only=True).totals().requests == 0


def test_a_persons_view_of_a_batch_names_its_state_and_counts() -> None:
    said: list[str] = []
    with batch_server(lambda body: fault(400) if "0" in str(body["messages"]) else echo(body)) as server:
        run(chat_over(server, said=said), request("0"), request("1"))
    assert said[1:] == [
        "batch batch_0: in_progress, 0 of 2 answered",
        "batch batch_0: finalizing, 0 of 2 answered",
        "batch batch_0: completed, 1 of 2 answered, 1 failed",
    ]


def test_a_cap_holds_over_processes_and_batches_and_counts_nothing_twice(tmp_path: Path) -> None:
    # At most 1 + 128 tokens of prompt and 64 of response are set aside for each, 193 in all: 400 tokens are room for
    # two requests at a time. Each takes 10 in the end.
    path, said = tmp_path / "ledger.sqlite", []

    async def stopped(chat: RecordedChat) -> None:
        asked = [asyncio.ensure_future(chat.complete(request(str(n)))) for n in range(6)]
        while not any("in_progress" in text for text in said):
            await asyncio.sleep(0.01)
        for task in asked:
            task.cancel()
        await chat.close()

    with batch_server(echo, looks=10_000) as server:
        asyncio.run(stopped(chat_over(server, path, said, budget="400tokens")))
        assert Ledger(path, read_only=True).totals().counted.tokens == 2 * 193
        server.finish_soon()
        answers = run(chat_over(server, path, budget="400tokens"), *(request(str(n)) for n in range(6)))
        assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(6)]
        assert Ledger(path, read_only=True).totals().counted.tokens == 60
        sizes = [len(server.files[batch["input_file_id"]].splitlines()) for batch in server.batches.values()]
        assert max(sizes) == 2
        (reached,) = run(chat_over(server, path, budget="200tokens"), request("new"))
    assert isinstance(reached, BudgetReached)
    assert sorted(server.prompts()) == [str(n) for n in range(6)]


def test_a_batch_of_a_killed_process_is_set_aside_until_it_is_collected(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with batch_server(echo) as server:
        server.trouble = lambda method, at, number: fault(503) if at == "/batches/*" else None
        pace = Pace(**{**vars(FAST), "longest_silence": 0.05})
        run(chat_over(server, path, pace=pace, budget="200tokens"), request("a"))
        server.trouble = lambda method, at, number: None
        # 193 of 200 tokens are set aside: the new request waits for the old one, and fits when that took 10 only.
        answers = run(chat_over(server, path, budget="210tokens"), request("b"))
    assert [answer.text for answer in answers] == ["answer to b"]
    assert sorted(server.prompts()) == ["a", "b"]
    assert Ledger(path, read_only=True).totals().counted.tokens == 20


def test_a_run_with_open_batches_is_not_gone_on_with_directly(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with batch_server(echo) as server:
        server.trouble = lambda method, at, number: fault(503) if at == "/batches/*" else None
        run(chat_over(server, path, pace=Pace(**{**vars(FAST), "longest_silence": 0.05})), request("a"))
        with pytest.raises(InstructorError) as refused:
            load_instructor(f"openai:m@{server.url}", ledger_path=path, config=InstructorConfig(), seed=0)
    assert refused.value.message == "1 requests of this run are in batches at the server: batch_0"
    assert str(refused.value.next_step).startswith("repeat the command with --batch to collect them")


@pytest.mark.parametrize("text", ["procedural:chain_sum", "scripted:answers.jsonl"])
def test_instructors_without_a_batch_api_say_so(text: str) -> None:
    with pytest.raises(InstructorError, match="has no Batch API\n  next: leave --batch out"):
        load_instructor(text, ledger_path=None, config=InstructorConfig(batch=True), seed=0)


@pytest.mark.parametrize(
    ("model", "address", "settings", "dollars"),
    [
        # gpt-4o: 2.50 and 10 dollars a million tokens; a thousand of each
        ("gpt-4o", "https://api.openai.com/v1", {"batch": False}, 0.0125),
        ("gpt-4o", "https://api.openai.com/v1", {"batch": True}, 0.00625),
        ("gpt-4o", "https://NAME.openai.azure.com/openai/v1", {"batch": True}, 0.0125),  # no batch rate is listed
        ("gpt-4o", "https://NAME.openai.azure.com/openai/v1", {"batch": True, **PRICED}, 0.003),
        ("m", "https://models.example/v1", {"batch": True}, None),
    ],
)
def test_a_batch_costs_half_where_that_is_known(
    model: str, address: str, settings: dict[str, Any], dollars: float | None
) -> None:
    prices = Prices(model, address, InstructorConfig(**settings))
    assert prices.cost(Usage(1_000, 1_000)) == (None if dollars is None else pytest.approx(dollars))


def test_no_file_of_a_run_holds_the_key(tmp_path: Path) -> None:
    with batch_server(echo) as server:
        run(chat_over(server, tmp_path / "ledger.sqlite"), request())
        held = b"".join(server.files.values())
    assert b"sk-planted-secret" not in held
    assert all(b"sk-planted-secret" not in file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize(("batch", "drafts_at_once"), [(False, 4_096), (True, 50_000)])
def test_as_many_drafts_are_under_way_as_fill_a_batch(batch: bool, drafts_at_once: int) -> None:
    begun = 0

    async def write(plan: int) -> Drop:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)
        await never.wait()
        raise AssertionError

    async def begin() -> None:
        plans = list(range(60_000))
        outcomes = stream_labelled(
            plans, write=write, screen=None, label=None, stage=None, decided=None, instructor=instructor
        )
        task = asyncio.ensure_future(anext(outcomes))
        while begun < drafts_at_once:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await instructor.close()

    never = asyncio.Event()
    with batch_server(echo) as server:
        config = InstructorConfig(batch=batch)
        instructor = load_instructor(f"openai:m@{server.url}", ledger_path=None, config=config, seed=0)
        asyncio.run(begin())
    assert begun - drafts_at_once < 64
