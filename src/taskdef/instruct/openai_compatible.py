"""``openai:MODEL[@BASE_URL]``: any endpoint with OpenAI's chat completions, through the official async client.

What an endpoint does not take (a JSON schema, several responses at once, ``max_tokens`` by that name) is learned from
its refusals and kept as its habits.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any
from urllib.parse import urlsplit

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError
from taskdef.instruct.chat import ChatRequest, Choice, Reply, Usage
from taskdef.instruct.faults import (
    Fault,
    FaultKind,
    is_about_schema,
    is_too_long,
    kind_of_status,
    one_line,
    retry_after,
    server_message,
)
from taskdef.unicode import clean_unicode

KEY_VARIABLE = "OPENAI_API_KEY"
DEFAULT_BASE_URL = "https://api.openai.com/v1"
RESUME = "repeat the same command when it is back: what is in the ledger is not paid for again"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CHARACTERS_A_TOKEN = 64
"""No tokenizer's texts are longer on average; a response that is was not made within ``max_tokens``."""
_SPARE_BYTES = 1_000_000
_MOST_TOKENS = 1 << 40
"""Far more than any request has: a larger count is a mistake, and would not fit into the ledger."""
_ADDRESS = re.compile(r"@(?=https?:|[a-z]+://)", re.IGNORECASE)
_BARE_ADDRESS = re.compile(r"@((?:localhost|\d+\.\d+\.\d+\.\d+|[\w.-]+(?=:\d)|[\w.-]+\.[a-z]{2,})(?::\d+)?(?:/.*)?)\Z")
_HAS_ITS_OWN_TEMPERATURE = re.compile(
    r"temperature.{0,80}(?:support|deprecated)|support.{0,80}temperature", re.IGNORECASE
)
_ABOUT_THE_COUNT = re.compile(r"\bn\b|multiple (?:choices|completions|candidates)|candidate.?count", re.IGNORECASE)

SCHEMA, COUNT, NEW_LIMIT_NAME = "takes_schema", "takes_count", "limit_is_max_completion_tokens"
OWN_TEMPERATURE = "has_its_own_temperature"
"""Habits. An absent one is not known yet; schemas and counts are tried until they are refused."""


class OpenAIEndpoint:
    """A chat model behind HTTP, asked once at a time; see sender.py for tries, and chat.Endpoint."""

    def __init__(self, model: str, base_url: str | None, *, config: InstructorConfig) -> None:
        """Raises InstructorError where the key is missing or the address is none."""
        self.model = model
        self.address = (base_url or DEFAULT_BASE_URL).rstrip("/")
        self.habits: dict[str, bool] = {}
        parts = urlsplit(self.address)
        if "@" in parts.netloc or parts.query or parts.fragment:
            plain = " (https://NAME.openai.azure.com/openai/v1 needs no query)" if _is_azure(parts.hostname) else ""
            raise InstructorError(
                f"openai:{model}: the address holds a user name, a password or a query, which would be recorded",
                next_step=f"give the plain address{plain}, and the key in the environment: export {KEY_VARIABLE}=…",
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InstructorError(
                f"openai:{model}@{base_url}: not an address", next_step="e.g. http://localhost:8000/v1"
            )
        key = _read_key(model)
        if not key and parts.hostname not in _LOOPBACK:
            raise InstructorError(
                f"openai:{model}: no key for {parts.hostname}: the environment variable {KEY_VARIABLE} is not set",
                next_step=f"export {KEY_VARIABLE}=…, or name a server on this machine: openai:MODEL@http://localhost:8000/v1",
            )
        import aiohttp  # noqa: F401  (takes most of a second; the first request should not wait for it)
        import openai  # noqa: F401

        self.key = key or "none-needed-on-loopback"
        self._config = config
        self._has_answered = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None

    def takes_count(self) -> bool:
        """Whether one exchange may ask for several responses: until the endpoint refuses or ignores it."""
        return self.habits.get(COUNT, True)

    async def ask(self, request: ChatRequest, count: int) -> Reply:
        """One exchange; a parameter that is refused is left out at once and from then on.

        Raises Fault, or InstructorError where no request can succeed.
        """
        import httpx2
        import openai

        client = self.client()
        limit = count * request.max_tokens * _CHARACTERS_A_TOKEN * 6 + _SPARE_BYTES  # \u00e9 for é: six bytes
        while True:
            body = self.body(request, count)
            try:
                async with asyncio.timeout(self._config.timeout_seconds):
                    # The plain response: half the CPU time of the client's typed one, and read as far as is sensible.
                    response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response, stream=True)
                    content = await _read_bounded(response, limit)
            except openai.APIStatusError as error:
                if not self.adjust(body, error):
                    raise self.status_fault(error) from None
            except httpx2.DecodingError as error:
                raise Fault(FaultKind.NOT_JSON, one_line(f"a body not encoded as it says: {error}", self.key)) from None
            except (openai.APIConnectionError, httpx2.RequestError) as error:
                raise self._connection_fault(error) from None
            except TimeoutError:
                seconds = f"{self._config.timeout_seconds:g} s"
                raise Fault(FaultKind.TIMED_OUT, f"no whole response within {seconds}") from None
            else:
                return self.read(_parse(content, self.key), request, body.get("n", 1))

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        if self._client is not None and self._loop is asyncio.get_running_loop():
            await self._client.close()
        self._client = self._loop = None

    def client(self) -> Any:
        """The client of the running event loop: connections of a loop that is over cannot be used."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            import httpx2
            import openai

            config = self._config
            most = config.concurrency + 8
            self._loop = loop
            self._client = openai.AsyncOpenAI(
                api_key=self.key,
                base_url=self.address,
                max_retries=0,
                timeout=openai.Timeout(
                    connect=config.connect_timeout_seconds,
                    read=config.first_byte_timeout_seconds,
                    write=config.timeout_seconds,
                    pool=None,
                ),
                http_client=openai.DefaultAioHttpClient(
                    limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most)
                ),
            )
        return self._client

    def body(self, request: ChatRequest, count: int) -> dict[str, Any]:
        """The request's body, with what this endpoint is not known to refuse."""
        limit_name = "max_completion_tokens" if self.habits.get(NEW_LIMIT_NAME) else "max_tokens"
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": request.prompt}],
            "temperature": request.temperature,
            limit_name: request.max_tokens,
        }
        if self.habits.get(OWN_TEMPERATURE):
            del body["temperature"]
        if count > 1 and self.takes_count():
            body["n"] = count
        if request.schema is not None and self.habits.get(SCHEMA, True):
            schema = {"name": request.purpose, "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def read(self, completion: Any, request: ChatRequest, asked: int) -> Reply:
        """What a response's JSON holds. Raises Fault where that is nothing usable."""
        if not isinstance(completion, dict) or not isinstance(completion.get("choices"), list):
            said = one_line(json.dumps(completion, ensure_ascii=False), self.key)
            raise Fault(FaultKind.NO_COMPLETION, said)
        usage = _usage(completion.get("usage"))
        self._has_answered = True
        if request.schema is not None:
            self.habits.setdefault(SCHEMA, True)
        choices, fault = [], Fault(FaultKind.NO_CHOICE, "the response holds no choice", usage=usage)
        for choice in completion["choices"][:asked]:
            try:
                choices.append(self._choice(choice, request.max_tokens))
            except Fault as found:
                found.usage = usage
                fault = found
        if not choices:
            raise fault
        note = fault.kind.value if len(choices) < min(asked, len(completion["choices"])) else ""
        if asked > 1 or len(completion["choices"]) > 1:
            note = self._count_note(len(completion["choices"]), asked) or note
        return Reply(tuple(choices), usage, note)

    def _count_note(self, got: int, asked: int) -> str:
        if got == asked:
            self.habits.setdefault(COUNT, True)
            return ""
        if got == 1 and not self.habits.get(COUNT):
            self.habits[COUNT] = False  # not a fault: it does not know the parameter
            return ""
        return FaultKind.WRONG_COUNT.value

    def _choice(self, choice: Any, max_tokens: int) -> Choice:
        message = choice.get("message") if isinstance(choice, dict) else None
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str) or not text.strip():
            refusal = message.get("refusal") if isinstance(message, dict) else None
            if refusal or (isinstance(choice, dict) and choice.get("finish_reason") == "content_filter"):
                raise Fault(FaultKind.REFUSED, one_line(str(refusal or "by the endpoint's content filter"), self.key))
            reason = one_line(str(choice.get("finish_reason") if isinstance(choice, dict) else ""), self.key)
            thought = ": the limit of tokens ended it before it said anything" if reason == "length" else ""
            raise Fault(FaultKind.EMPTY, f"the response holds no text{thought}")
        if len(text) > max_tokens * _CHARACTERS_A_TOKEN:
            raise Fault(FaultKind.TOO_LARGE, f"{len(text):,} characters for {max_tokens} tokens asked for")
        return Choice(clean_unicode(text), one_line(str(choice.get("finish_reason") or ""), self.key))

    def adjust(self, sent: dict[str, Any], error: Any) -> bool:
        """Learn from a refused parameter; True where the request is worth repeating at once without it.

        Looks at what was sent, not at what is known by now: many requests may be refused for the same reason at once.
        """
        if error.status_code not in (400, 422):
            return False
        message = self._said(error)
        if "max_completion_tokens" in message and "max_tokens" in sent:
            self.habits[NEW_LIMIT_NAME] = True  # newer OpenAI models know the limit by this name only
            return True
        if "temperature" in sent and _HAS_ITS_OWN_TEMPERATURE.search(message):
            self.habits[OWN_TEMPERATURE] = True  # models that think before they answer have one of their own
            return True
        if "n" in sent and not is_too_long(message):
            about_count = _ABOUT_THE_COUNT.search(message) is not None
            if about_count or (COUNT not in self.habits and "response_format" not in sent):
                self.habits[COUNT] = False
                return True
        if "response_format" in sent and self._refuses_schema(message):
            if self._config.force_form:
                raise InstructorError(
                    f"openai:{self.model}@{self.address}: refuses the JSON schema that instruct.force_form needs "
                    f"({error.status_code}): {message}",
                    next_step="--set instruct.force_form=false, or name an endpoint that takes JSON schemas",
                )
            self.habits[SCHEMA] = False
            return True
        return False

    def _refuses_schema(self, message: str) -> bool:
        """Whether a refusal is about the schema: it says so, or no request with a schema has passed here yet."""
        if is_too_long(message):
            return False
        return not self.habits.get(SCHEMA) or is_about_schema(message)

    def status_fault(self, error: Any) -> Exception:
        """The fault that a status stands for; InstructorError for those that no other request would change."""
        status, said = error.status_code, self._said(error)
        where = f"openai:{self.model}@{self.address}"
        if status in (401, 403):
            return InstructorError(
                f"{where}: access refused ({status}): {said}", next_step=f"check the key in {KEY_VARIABLE}"
            )
        if status in (404, 405):
            return InstructorError(
                f"{where}: no such model or no chat completions at this address ({status}): {said}",
                next_step=f"check the model's name and the address; {self.address}/models lists what it serves",
            )
        if status == 402 or (status == 429 and error.code == "insufficient_quota"):
            return InstructorError(f"{where}: {said}", next_step=f"add credit, then {RESUME}")
        if status in (400, 422) and not self._has_answered and not is_too_long(said):
            return InstructorError(
                f"{where}: refuses the request ({status}): {said}",
                next_step="correct instruct.* or synthesize.temperature with --set",
            )
        return Fault(kind_of_status(status), f"{status}: {said}", retry_after=retry_after(error))

    def _connection_fault(self, error: Exception) -> Fault:
        """Told by the first cause: the layers between call a refused connection and a lost one a time-out."""
        import aiohttp

        cause: BaseException = error
        while not isinstance(cause, aiohttp.ClientError) and (below := cause.__cause__ or cause.__context__):
            cause = below
        detail = one_line(str(cause) or type(cause).__name__, self.key)
        if isinstance(cause, aiohttp.ClientConnectorError):
            return Fault(FaultKind.NO_CONNECTION, detail)
        return Fault(FaultKind.TIMED_OUT if isinstance(cause, TimeoutError) else FaultKind.CONNECTION_LOST, detail)

    def _said(self, error: Exception) -> str:
        return server_message(error, self.key)


def _is_azure(host: str | None) -> bool:
    return host is not None and host.endswith(".azure.com")


async def _read_bounded(response: Any, limit: int) -> bytes:
    """The body, as far as ``limit`` bytes; raises Fault beyond."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > limit:
                raise Fault(FaultKind.TOO_LARGE, f"a body of more than {limit:,} bytes")
            chunks.append(chunk)
    finally:
        await response.aclose()
    return b"".join(chunks)


def _parse(content: bytes, key: str) -> Any:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault(FaultKind.NOT_UTF8, str(error)) from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Fault(FaultKind.NOT_JSON, one_line(text, key) or "an empty body") from None


def _usage(value: Any) -> Usage | None:
    """The tokens of a response; None where the endpoint does not say, or says what cannot be: no prompt is empty."""
    if not isinstance(value, dict):
        return None
    prompt, completion = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    if not prompt or completion is None:
        return None
    # Gemini and Grok leave out of completion_tokens what the model thought, which they bill and count in the total.
    completion = max(completion, (_count(value.get("total_tokens")) or 0) - prompt)
    details = value.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(prompt, completion, min(cached or 0, prompt))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else None


def _read_key(model: str) -> str:
    """The key in the environment, empty where there is none. Raises InstructorError, without its words, where it cannot
    stand in a request's header."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable():
        raise InstructorError(
            f"openai:{model}: the key in {KEY_VARIABLE} holds a line break or a sign that no key has",
            next_step=f"export {KEY_VARIABLE}=… again with the key alone",
        )
    return key


def parse_endpoint(text: str) -> tuple[str, str | None]:
    """``MODEL[@BASE_URL]`` -> model, address. Model names may hold an @ of their own.

    Raises InstructorError where an address lacks its http://: the prompts would go to OpenAI.
    """
    found = _ADDRESS.search(text)
    if found:
        return text[: found.start()], text[found.start() + 1 :]
    if bare := _BARE_ADDRESS.search(text):
        raise InstructorError(
            f"openai:{text}: {bare[1]} looks like an address without its http:// or https://",
            next_step=f"--instructor openai:{text[: bare.start()]}@http://{bare[1]}",
        )
    return text, None
