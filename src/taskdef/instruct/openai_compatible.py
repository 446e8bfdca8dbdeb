"""``openai:MODEL[@BASE_URL]``: any endpoint with OpenAI's chat completions, through the official async client."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any
from urllib.parse import urlsplit

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError
from taskdef.instruct.chat import ChatFailed, ChatRequest, ChatResponse
from taskdef.instruct.server_faults import is_about_schema, is_too_long, retry_after, server_message, without_key
from taskdef.unicode import clean_unicode

KEY_VARIABLE = "OPENAI_API_KEY"
DEFAULT_BASE_URL = "https://api.openai.com/v1"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_RETRIED_STATUS = frozenset({408, 409, 425, 429})
_LONGEST_WAIT = 120.0
_GIVE_UP_AFTER = 8
"""Requests in a row that use up all their tries, with no success between: the endpoint is down, not the request."""
_RESUME = "repeat the same command when it is back: what is in the ledger is not paid for again"


class OpenAIChat:
    """A chat model behind HTTP.

    Sends at most ``config.concurrency`` requests at once. A 429, a 5xx, a time-out, a broken connection or a body that
    is no completion is tried again up to ``config.max_retries`` times, after the time the server names in Retry-After
    or else after a doubling, jittered wait. An endpoint that refuses a JSON schema is asked without one from then on;
    with ``config.force_form``, which is nothing without a schema, the refusal is an error.
    """

    def __init__(
        self, model: str, base_url: str | None, *, config: InstructorConfig, backoff_seconds: float = 0.5
    ) -> None:
        """Raises InstructorError where the key is missing or the address is none."""
        self.model = model
        self.endpoint = (base_url or DEFAULT_BASE_URL).rstrip("/")
        self.failed_tries = 0
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InstructorError(
                f"openai:{model}@{base_url}: not an address", next_step="e.g. http://localhost:8000/v1"
            )
        if parts.username or parts.password or parts.query:
            raise InstructorError(
                f"openai:{model}: the address holds a user name, a password or a query, which would be recorded",
                next_step=f"give the plain address, and the key in the environment: export {KEY_VARIABLE}=…",
            )
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key and parts.hostname not in _LOOPBACK:
            raise InstructorError(
                f"openai:{model}: no key for {parts.hostname}: the environment variable {KEY_VARIABLE} is not set",
                next_step=f"export {KEY_VARIABLE}=…, or name a server on this machine: openai:MODEL@http://localhost:8000/v1",
            )
        self._key = key or "none-needed-on-loopback"
        self._config = config
        self._backoff_seconds = backoff_seconds
        self._takes_schema = True
        self._schema_succeeded = False
        self._limit_name = "max_tokens"
        self._succeeded = False
        self._exhausted_in_a_row = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._slots = asyncio.Semaphore(config.concurrency)

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer a request. Raises ChatFailed for this request alone, InstructorError where no request can succeed."""
        self._bind_to_loop()
        async with self._slots:
            return await self._complete_with_tries(request)

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        if self._client is not None and self._loop is asyncio.get_running_loop():
            await self._client.close()
        self._client = self._loop = None

    def _bind_to_loop(self) -> None:
        """Make client and semaphore for the running loop: connections of a loop that is over cannot be used."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            from openai import AsyncOpenAI  # here: it takes a second to import

            self._loop = loop
            self._slots = asyncio.Semaphore(self._config.concurrency)
            self._client = AsyncOpenAI(
                api_key=self._key, base_url=self.endpoint, max_retries=0, timeout=self._config.timeout_seconds
            )

    async def _complete_with_tries(self, request: ChatRequest) -> ChatResponse:
        import openai

        faults: list[Exception] = []
        while len(faults) <= self._config.max_retries:
            arguments = self._arguments(request)
            try:
                began = time.monotonic()
                completion = await self._client.chat.completions.create(**arguments)
                response = self._read(completion, seconds=time.monotonic() - began, tries=len(faults) + 1)
                self._schema_succeeded |= "response_format" in arguments
                return response
            except openai.APIStatusError as error:
                if self._adjust(arguments, error):
                    continue
                self._stop_if_hopeless(error)
                if error.status_code < 500 and error.status_code not in _RETRIED_STATUS:
                    self.failed_tries += 1
                    raise ChatFailed(f"{error.status_code}: {self._said(error)}") from None
                fault: Exception = error
            except (openai.APIError, ValueError) as error:  # no connection, a time-out, or a body that is no JSON
                fault = error
            self.failed_tries += 1
            faults.append(fault)
            if len(faults) <= self._config.max_retries:
                await asyncio.sleep(self._wait(fault, len(faults)))
        raise self._exhausted(faults)

    def _arguments(self, request: ChatRequest) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": request.prompt}],
            "temperature": request.temperature,
            self._limit_name: request.max_tokens,
        }
        if request.schema is not None and self._takes_schema:
            schema = {"name": request.purpose, "schema": request.schema, "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        return arguments

    def _read(self, completion: Any, *, seconds: float, tries: int) -> ChatResponse:
        choices = getattr(completion, "choices", None)
        if choices is None:
            raise ValueError(f"not a chat completion: {without_key(str(completion), self._key)[:200]}")
        self._succeeded = True
        self._exhausted_in_a_row = 0
        if not choices:
            raise ChatFailed("the response holds no choice")
        message = choices[0].message
        text = (message.content if message is not None else None) or ""
        if not text.strip():
            refusal = getattr(message, "refusal", None)
            raise ChatFailed(f"refused: {without_key(str(refusal), self._key)}" if refusal else "the response is empty")
        usage = completion.usage
        return ChatResponse(
            text=clean_unicode(text),
            finish_reason=str(choices[0].finish_reason or ""),
            prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
            completion_tokens=getattr(usage, "completion_tokens", 0) or 0,
            seconds=seconds,
            tries=tries,
        )

    def _adjust(self, sent: dict[str, Any], error: Any) -> bool:
        """Learn from a refused parameter; True where the request is worth repeating at once without it.

        Looks at what was sent, not at what is known by now: many requests may be refused for the same reason at once.
        """
        if error.status_code not in (400, 422):
            return False
        message = self._said(error)
        if "max_completion_tokens" in message and "max_tokens" in sent:
            self._limit_name = "max_completion_tokens"  # newer OpenAI models know the limit by this name only
            return True
        if "response_format" in sent and self._refuses_schema(message):
            if self._config.force_form:
                raise InstructorError(
                    f"openai:{self.model}@{self.endpoint}: refuses the JSON schema that instruct.force_form needs "
                    f"({error.status_code}): {message}",
                    next_step="--set instruct.force_form=false, or name an endpoint that takes JSON schemas",
                )
            self._takes_schema = False
            return True
        return False

    def _refuses_schema(self, message: str) -> bool:
        """Whether a refusal is about the schema: it says so, or no request with a schema has passed here yet."""
        if is_too_long(message):
            return False
        return not self._schema_succeeded or is_about_schema(message)

    def _stop_if_hopeless(self, error: Any) -> None:
        """Raise InstructorError for answers that no other request would change."""
        status, said = error.status_code, self._said(error)
        where = f"openai:{self.model}@{self.endpoint}"
        if status in (401, 403):
            raise InstructorError(
                f"{where}: access refused ({status}): {said}", next_step=f"check the key in {KEY_VARIABLE}"
            )
        if status in (404, 405):
            raise InstructorError(
                f"{where}: no such model or no chat completions at this address ({status}): {said}",
                next_step=f"check the model's name and the address; {self.endpoint}/models lists what it serves",
            )
        if status == 429 and error.code == "insufficient_quota":
            raise InstructorError(f"{where}: {said}", next_step=f"add credit, then {_RESUME}")
        if status in (400, 422) and not self._succeeded and not is_too_long(said):
            raise InstructorError(
                f"{where}: refuses the request ({status}): {said}",
                next_step="correct instruct.* or synthesize.temperature with --set",
            )

    def _said(self, error: Exception) -> str:
        return server_message(error, self._key)

    def _wait(self, fault: Exception, failed: int) -> float:
        named = retry_after(fault)
        if named is not None:
            return min(named, _LONGEST_WAIT)
        return min(self._backoff_seconds * 2.0 ** (failed - 1), _LONGEST_WAIT) * random.uniform(0.75, 1.25)

    def _exhausted(self, faults: list[Exception]) -> Exception:
        import openai

        last = faults[-1]
        said = self._said(last)
        where = f"openai:{self.model}@{self.endpoint}"
        lost = [isinstance(f, openai.APIConnectionError) and not isinstance(f, openai.APITimeoutError) for f in faults]
        if all(lost):
            cause = f" ({without_key(str(last.__cause__), self._key)})" if last.__cause__ else ""
            return InstructorError(f"{where}: cannot be reached after {len(faults)} tries{cause}", next_step=_RESUME)
        self._exhausted_in_a_row += 1
        if self._exhausted_in_a_row >= _GIVE_UP_AFTER:
            return InstructorError(
                f"{where}: {self._exhausted_in_a_row} requests in a row failed {len(faults)} times each; last: {said}",
                next_step=_RESUME,
            )
        return ChatFailed(f"{len(faults)} tries; last: {said}")


def parse_endpoint(text: str) -> tuple[str, str | None]:
    """``MODEL[@BASE_URL]`` -> model, address. Model names may hold an @ of their own."""
    model, at, address = text.partition("@http")
    return (model, f"http{address}") if at else (text, None)
