"""The OpenAI-compatible client against a real server on loopback: tries, waits, faults and the last message."""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chat_server import Reply, chat_server, completion, fault

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError
from taskdef.instruct.chat import ChatFailed, ChatRequest, ChatResponse
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.openai_compatible import KEY_VARIABLE, OpenAIEndpoint, parse_endpoint
from taskdef.instruct.recorded import RecordedChat
from taskdef.instruct.sender import Sender

SCHEMA = {"type": "object", "properties": {"input": {"type": "string"}}}


def request(index: int = 0, schema: dict[str, Any] | None = None) -> ChatRequest:
    return ChatRequest("generate", "Write.", temperature=0.7, max_tokens=64, schema=schema, index=index)


def client(url: str, **settings: Any) -> RecordedChat:
    config = InstructorConfig(**{"max_retries": 3, "timeout_seconds": 5, **settings})
    return RecordedChat(
        Sender(OpenAIEndpoint("m", url, config=config), Ledger(None), config, backoff_seconds=0.001), []
    )


def failed_tries(chat: RecordedChat) -> int:
    return chat.spending().failed_tries


def ask(chat: RecordedChat, *requests: ChatRequest) -> list[ChatResponse | BaseException]:
    async def all_of_them() -> list[ChatResponse | BaseException]:
        try:
            return await asyncio.gather(*map(chat.complete, requests), return_exceptions=True)
        finally:
            await chat.sender.endpoint.close()

    return asyncio.run(all_of_them())


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def test_a_response_comes_back_with_its_counts() -> None:
    with chat_server(lambda body, number: completion("four")) as server:
        (response,) = ask(client(server.url), request())
    assert isinstance(response, ChatResponse)
    assert (response.text, response.finish_reason, response.prompt_tokens, response.completion_tokens) == (
        "four",
        "stop",
        7,
        3,
    )
    (sent,) = server.requests
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("m", 64, 0.7)
    assert sent["messages"] == [{"role": "user", "content": "Write."}]


@pytest.mark.parametrize(
    "bad",
    [
        fault(429),
        fault(500),
        fault(503),
        Reply(b'{"choices": [{"mess'),
        Reply(b"<html>busy</html>", headers={"Content-Type": "text/html"}),
        Reply({"object": "error"}),
    ],
    ids=["429", "500", "503", "half a body", "html", "no completion"],
)
def test_a_passing_fault_is_tried_again(bad: Reply) -> None:
    with chat_server(lambda body, number: bad if number < 2 else completion("ok")) as server:
        chat = client(server.url)
        (response,) = ask(chat, request())
    assert isinstance(response, ChatResponse)
    assert (response.text, response.tries, failed_tries(chat), len(server.requests)) == ("ok", 3, 2, 3)


def test_retry_after_is_waited_for() -> None:
    late = fault(429, headers={"Retry-After": "0.2"})
    with chat_server(lambda body, number: late if number == 0 else completion("ok")) as server:
        chat = client(server.url)
        began = asyncio.new_event_loop().time()
        ask(chat, request())
        assert asyncio.new_event_loop().time() - began >= 0.2


def test_a_hang_is_a_time_out_and_tried_again() -> None:
    slow = Reply({}, delay=0.4)
    with chat_server(lambda body, number: slow if number == 0 else completion("ok")) as server:
        (response,) = ask(client(server.url, timeout_seconds=0.1), request())
    assert isinstance(response, ChatResponse)
    assert response.tries == 2


def test_a_fault_that_stays_fails_its_own_request_only() -> None:
    with chat_server(lambda body, number: fault(500, "broken") if body["temperature"] else completion("ok")) as server:
        other = ChatRequest("answer", "Answer.", temperature=0, max_tokens=64)
        failed, answered = ask(client(server.url, max_retries=1), request(), other)
    assert isinstance(failed, ChatFailed)
    assert "2 tries; last: server error: 500: broken" in str(failed)
    assert isinstance(answered, ChatResponse)


def test_an_endpoint_that_only_fails_stops_the_run() -> None:
    with chat_server(lambda body, number: fault(503, "down for repair")) as server:
        outcomes = ask(client(server.url, max_retries=0), *(request(index) for index in range(8)))
    assert [type(o) for o in outcomes].count(ChatFailed) == 7
    (stop,) = [o for o in outcomes if isinstance(o, InstructorError)]
    assert "8 requests in a row failed" in str(stop)
    assert "down for repair" in str(stop)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (completion(None, refusal="I would rather not"), "refused: I would rather not"),
        (completion("  "), "the response holds no text"),
        (Reply({**completion("x").body, "choices": []}), "no choice"),
    ],
)
def test_a_refusal_or_an_empty_response_is_tried_a_few_times_and_then_fails_the_draft(
    reply: Reply, message: str
) -> None:
    with chat_server(lambda body, number: reply) as server:
        chat = client(server.url, max_retries=9)
        (failed,) = ask(chat, request())
    assert isinstance(failed, ChatFailed)
    assert message in str(failed)
    assert len(server.requests) == 4
    # the server counted 7 + 3 tokens each time, and so does the ledger
    assert (chat.spending().prompt_tokens, chat.spending().completion_tokens) == (28, 12)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (fault(401, "bad key"), "access refused (401): bad key\n  next: check the key in OPENAI_API_KEY"),
        (fault(404, "no model m"), "no such model or no chat completions at this address (404): no model m"),
        (fault(400, "temperature must be 1"), "refuses the request (400): temperature must be 1"),
        (fault(429, "quota is used up", code="insufficient_quota"), "quota is used up\n  next: add credit"),
        (fault(402, "insufficient balance"), "insufficient balance\n  next: add credit"),
    ],
)
def test_a_fault_that_no_request_would_change_stops_the_run(reply: Reply, message: str) -> None:
    with chat_server(lambda body, number: reply) as server:
        (stop,) = ask(client(server.url), request())
    assert isinstance(stop, InstructorError)
    assert message in str(stop)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500, 200])
@pytest.mark.parametrize("passed", [0, 1])
def test_a_server_that_repeats_the_key_does_not_spread_it(
    status: int, passed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-very-secret-" + "0123456789" * 30)

    def echo(body: dict[str, Any], number: int) -> Reply:
        if number < passed:
            return completion("ok")
        said = f"{server.authorizations[-1]} was refused"
        return fault(status, said) if status != 200 else Reply({"object": said})

    with chat_server(echo) as server:
        chat = client(server.url, max_retries=0)

        async def each() -> None:
            for index in range(passed + 1):
                await chat.complete(request(index))

        with pytest.raises((ChatFailed, InstructorError)) as stop:
            asyncio.run(each())
    assert "Bearer sk-very-secret" in server.authorizations[-1]
    assert "[key]" in str(stop.value)
    assert "secret" not in str(stop.value)
    assert "0123" not in str(stop.value)


def test_an_unreachable_endpoint_stops_the_run_and_says_how_to_go_on() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (stop,) = ask(client(f"http://127.0.0.1:{port}/v1", max_retries=1), request())
    assert isinstance(stop, InstructorError)
    assert f"127.0.0.1:{port}/v1: cannot be reached after 2 tries" in str(stop)
    assert "next: repeat the same command when it is back" in str(stop)


def test_a_prompt_longer_than_the_context_fails_alone() -> None:
    with chat_server(lambda body, number: fault(400, "maximum context length is 4096 tokens")) as server:
        (failed,) = ask(client(server.url), request(schema=SCHEMA))
    assert isinstance(failed, ChatFailed)


def test_a_refused_schema_is_learned_once_also_by_requests_in_flight() -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        return fault(400, "response_format is not supported") if "response_format" in body else completion("ok")

    with chat_server(answer) as server:
        chat = client(server.url)

        async def twice() -> list[ChatResponse]:
            first = await asyncio.gather(*(chat.complete(request(i, SCHEMA)) for i in range(4)))
            return [*first, await chat.complete(request(9, SCHEMA))]

        assert [r.text for r in asyncio.run(twice())] == ["ok"] * 5
    with_schema = [body for body in server.requests if "response_format" in body]
    assert 1 <= len(with_schema) <= 4
    assert "response_format" not in server.requests[-1]
    assert failed_tries(chat) == 0


def test_a_refusal_of_one_prompt_leaves_the_schema_on_for_the_others() -> None:
    with chat_server(lambda body, number: fault(400, "the prompt is unsafe") if number == 1 else completion("ok")) as s:
        chat = client(s.url)

        async def three() -> list[ChatResponse | BaseException]:
            asked = [chat.complete(request(index, SCHEMA)) for index in range(3)]
            return [(await asyncio.gather(one, return_exceptions=True))[0] for one in asked]

        first, second, third = asyncio.run(three())
    assert isinstance(first, ChatResponse)
    assert isinstance(second, ChatFailed)
    assert str(second) == "rejected: 400: the prompt is unsafe"
    assert isinstance(third, ChatResponse)
    assert ["response_format" in body for body in s.requests] == [True, True, True]


@pytest.mark.parametrize("passed", [0, 1])
def test_a_refused_schema_is_an_error_where_the_form_is_to_be_forced(passed: int) -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        return completion("ok") if number < passed else fault(400, "failed to parse grammar")

    with chat_server(answer) as server:
        chat = client(server.url, force_form=True)

        async def ask_each() -> None:
            for index in range(passed + 1):
                await chat.complete(request(index, SCHEMA))

        with pytest.raises(InstructorError) as stop:
            asyncio.run(ask_each())
    assert str(stop.value) == (
        f"openai:m@{server.url}: refuses the JSON schema that instruct.force_form needs (400): failed to parse grammar"
        "\n  next: --set instruct.force_form=false, or name an endpoint that takes JSON schemas"
    )
    assert len(server.requests) == passed + 1


def test_the_other_name_of_the_token_limit_is_learned() -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        return fault(400, "use 'max_completion_tokens' instead") if "max_tokens" in body else completion("ok")

    with chat_server(answer) as server:
        (response,) = ask(client(server.url), request())
    assert isinstance(response, ChatResponse)
    assert server.requests[-1]["max_completion_tokens"] == 64


def test_no_more_requests_at_once_than_allowed() -> None:
    slow = completion("ok")
    slow.delay = 0.03
    with chat_server(lambda body, number: slow) as server:
        ask(client(server.url, concurrency=3), *(request(index) for index in range(9)))
    assert server.most_at_once == 3


def test_one_instructor_outlives_an_event_loop() -> None:
    with chat_server(lambda body, number: completion("ok")) as server:
        chat = client(server.url)
        for _ in range(2):
            assert asyncio.run(chat.complete(request())).text == "ok"


def test_half_a_surrogate_pair_does_not_reach_the_files() -> None:
    with chat_server(lambda body, number: completion("a\ud800b")) as server:
        (response,) = ask(client(server.url), request())
    assert isinstance(response, ChatResponse)
    assert response.text == "a?b"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "OPENAI_API_KEY is not set\n  next: export OPENAI_API_KEY="),
        ("https://models.example/v1", "no key for models.example"),
        ("http://user:word@localhost/v1", "would be recorded"),
        ("http://:word@localhost/v1", "would be recorded"),
        ("ftp://user:word@localhost/v1", "would be recorded"),
        ("http://localhost/v1#word", "would be recorded"),
        ("http://", "not an address"),
        ("ftp://localhost", "not an address"),
    ],
)
def test_a_missing_key_or_a_wrong_address_is_said_before_anything_is_sent(address: str | None, message: str) -> None:
    with pytest.raises(InstructorError) as stop:
        OpenAIEndpoint("m", address, config=InstructorConfig())
    assert message in str(stop.value)
    assert "word" not in str(stop.value).replace("password", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt-x", ("gpt-x", None)),
        ("a/b@http://localhost:1/v1", ("a/b", "http://localhost:1/v1")),
        ("team@m@https://h/v1", ("team@m", "https://h/v1")),
        ("m@HTTP://h/v1", ("m", "HTTP://h/v1")),
        ("@cf/meta/llama-3.1-8b-instruct", ("@cf/meta/llama-3.1-8b-instruct", None)),
        ("claude-haiku@20251001", ("claude-haiku@20251001", None)),
    ],
)
def test_model_and_address_are_told_apart(text: str, expected: tuple[str, str | None]) -> None:
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("m@localhost:8000/v1", "localhost:8000/v1"),
        ("m@localhost/v1", "localhost/v1"),
        ("a/b@10.0.0.7/v1", "10.0.0.7/v1"),
        ("m@models.example", "models.example"),
        ("m@gpu7:8000", "gpu7:8000"),
    ],
)
def test_an_address_without_http_is_not_taken_for_a_model_of_openai(text: str, address: str) -> None:
    with pytest.raises(InstructorError, match="without its http") as stop:
        parse_endpoint(text)
    assert stop.value.next_step == f"--instructor openai:{text.partition('@')[0]}@http://{address}"


@pytest.mark.parametrize("key", ["sk-first\nsecond", "sk-pr\u00e9", "sk-\x01"])
def test_a_key_that_no_header_can_hold_is_said_without_its_words(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(InstructorError, match="holds a line break or a sign that no key has") as stop:
        OpenAIEndpoint("m", "http://localhost/v1", config=InstructorConfig())
    assert "sk-" not in str(stop.value)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}, (10, 3, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 63}, (10, 53, 0)),  # 50 of them thought
        ({"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 99}}, (10, 3, 10)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": -4}}, (10, 3, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": -10, "completion_tokens": 3}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 3}, None),
        ({"prompt_tokens": 10, "completion_tokens": None}, None),
    ],
)
def test_tokens_are_those_that_are_billed_and_unknown_where_they_cannot_be(
    usage: dict[str, Any], counted: tuple[int, int, int] | None
) -> None:
    with chat_server(lambda body, number: Reply({**completion("x").body, "usage": usage})) as server:
        chat = client(server.url)
        ask(chat, request())
    totals = chat.ledger.totals()
    assert (totals.prompt_tokens, totals.completion_tokens, totals.cached_tokens) == (counted or (0, 0, 0))
    assert totals.counted.tokens == (counted[0] + counted[1] if counted else len("Write.") + 128 + 64)


def test_a_model_with_a_temperature_of_its_own_is_asked_without_one() -> None:
    said = "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) is supported."

    def answer(body: dict[str, Any], number: int) -> Reply:
        return fault(400, said) if "temperature" in body else completion("ok")

    with chat_server(answer) as server:
        chat = client(server.url)
        answers = [ask(chat, request(index, SCHEMA))[0] for index in range(2)]
    assert [answer.text for answer in answers if isinstance(answer, ChatResponse)] == ["ok", "ok"]
    assert ["temperature" in body for body in server.requests] == [True, False, False]
    assert all("response_format" in body for body in server.requests)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (fault(400, "content policy"), "32 requests in a row got no answer; last: rejected: 400: content policy"),
        (
            Reply({**completion("").body, "choices": [{"finish_reason": "length", "message": {"content": ""}}]}),
            "last: 4 tries; last: empty: the response holds no text: the limit of tokens ended it before it said",
        ),
    ],
)
def test_a_model_that_answers_nobody_stops_the_run_before_more_is_paid(reply: Reply, message: str) -> None:
    with chat_server(lambda body, number: completion("ok") if not number else reply) as server:
        chat = client(server.url)
        ask(chat, request())
        outcomes = ask(chat, *(request(index) for index in range(1, 33)))
    assert [type(outcome) for outcome in outcomes].count(ChatFailed) == 31
    (stop,) = [outcome for outcome in outcomes if isinstance(outcome, InstructorError)]
    assert message in str(stop)
    assert "a larger instruct.max_tokens" in str(stop)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_not_encoded_as_it_says_is_tried_again(encoding: str) -> None:
    broken = Reply(b"no such bytes", headers={"Content-Encoding": encoding})
    with chat_server(lambda body, number: completion("ok") if number else broken) as server:
        chat = client(server.url)
        (answer,) = ask(chat, request())
    assert isinstance(answer, ChatResponse)
    assert chat.ledger.totals().faults == {"not_json": 1}


@pytest.mark.parametrize("named", ["inf", "1e9", "nan", "-3"])
def test_a_wait_without_end_is_not_waited_for(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskdef.instruct.sender._LONGEST_WAIT", 0.05)
    late = fault(429, headers={"Retry-After": named})
    with chat_server(lambda body, number: completion("ok") if number else late) as server:
        (answer,) = ask(client(server.url), request())
    assert isinstance(answer, ChatResponse)


def test_a_servers_words_move_no_cursor_and_fit_into_the_ledger() -> None:
    said = fault(500, "a\x1b[2Jb\ud83dc")
    with chat_server(lambda body, number: completion("ok") if number else said) as server:
        chat = client(server.url)
        ask(chat, request())
    (detail,) = chat.ledger.execute("SELECT detail FROM requests WHERE fault IS NOT NULL")
    assert detail == ("500: a\ufffd[2Jb\ufffdc",)


def choices(*texts: str) -> Reply:
    one = completion("x").body
    return Reply(
        {
            **one,
            "choices": [{"index": i, "finish_reason": "stop", "message": {"content": t}} for i, t in enumerate(texts)],
        }
    )


def votes(chat: RecordedChat, count: int) -> list[str]:
    return sorted(response.text for response in asyncio.run(chat.complete_many(request(), count)))


def test_several_votes_are_asked_for_at_once() -> None:
    with chat_server(lambda body, number: choices("a", "b", "c")) as server:
        assert votes(client(server.url), 3) == ["a", "b", "c"]
    assert [body.get("n") for body in server.requests] == [3]


@pytest.mark.parametrize(
    "refusal",
    [fault(400, "'n' must be 1"), fault(422, "multiple completions are not supported"), completion("0")],
    ids=["refused", "refused otherwise", "ignored"],
)
def test_an_endpoint_that_gives_one_at_a_time_is_asked_so_and_that_is_learned_once(
    refusal: Reply, tmp_path: Path
) -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        return refusal if body.get("n", 1) > 1 else completion(str(number))

    with chat_server(answer) as server:
        chat = client(server.url)
        assert len(set(votes(chat, 3))) == 3
        assert asyncio.run(chat.complete_many(request(9), 2))
    assert [body.get("n", 1) for body in server.requests].count(3) == 1
    assert [body.get("n", 1) for body in server.requests].count(2) == 0
    assert failed_tries(chat) == 0
    assert chat.ledger.learned(f"m@{server.url}") == {"takes_count": False}


def test_too_few_or_too_many_votes_are_counted_and_made_up_for() -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        asked = body.get("n", 1)
        return choices(*[f"{number}{i}" for i in range({0: asked, 1: asked - 1, 2: asked + 2}[number])])

    with chat_server(answer) as server:
        chat = client(server.url)
        assert votes(chat, 3) == ["00", "01", "02"]
        more = asyncio.run(chat.complete_many(request(10), 4))
    assert [response.text for response in more] == ["10", "11", "12", "20"]
    assert chat.spending().faults == {"wrong_count": 2}


def test_a_very_long_answer_is_a_fault_and_read_no_further_than_needed() -> None:
    huge = completion("x" * 5_000_000)
    with chat_server(lambda body, number: huge if number == 0 else completion("ok")) as server:
        chat = client(server.url)
        (response,) = ask(chat, request())
    assert isinstance(response, ChatResponse)
    assert response.text == "ok"
    assert chat.spending().faults == {"too_large": 1}
