"""OpenAI's Batch API through the official client: a file up, a batch over it, its state, two files down.

https://developers.openai.com/api/docs/guides/batch. Faults of these few exchanges are no faults of the requests in a
batch: they are tried again for a long time, since the batch goes on at the server all the while. Creating one is not
repeated blindly: where it is not known whether it came to the server, the batch is looked for by its mark first.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from taskdef.errors import InstructorError
from taskdef.instruct.faults import Fault, FaultKind, one_line, retry_after, server_message
from taskdef.instruct.openai_compatible import KEY_VARIABLE, OpenAIEndpoint

COMPLETIONS = "/v1/chat/completions"
OVER = frozenset({"completed", "failed", "expired", "cancelled"})
"""States in which nothing more happens."""
MARK = "taskdef_mark"
_DAY = 86_400.0
_FILE_IS_BEING_READ = frozenset({"pending", "running"})
_TRANSIENT = frozenset({408, 409, 425, 429})
_FAULTS = {
    "batch_expired": FaultKind.EXPIRED,
    "batch_cancelled": FaultKind.CANCELLED,
    "request_timeout": FaultKind.TIMED_OUT,
}
_LONGEST_LINE = 1 << 28

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """Sizes and waits, in seconds."""

    most_requests: int = 50_000
    """In one batch: OpenAI's limit."""
    most_bytes: int = 199_000_000
    """Of one batch's file: OpenAI takes 200 MB."""
    quiet: float = 4.0
    """What is waiting is submitted when nothing new has come for so long."""
    first_poll: float = 5.0
    longest_poll: float = 60.0
    """The wait between two looks at a batch grows from the one to the other."""
    creation_settles: float = 30.0
    """A batch that the server does not list so long after it was to be created never came to be."""
    first_contact: float = 15.0
    """An endpoint that has never answered is given up after so long,"""
    longest_silence: float = 3_600.0
    """and one that has, after this."""
    between_lines: float = 300.0
    """A person is told of a batch's progress no more often."""


class LineRefused(Exception):
    """The status other than 200 that one request of a batch got, in the form of the client's own errors."""

    def __init__(self, status_code: int, body: Any) -> None:
        inner = body.get("error", body) if isinstance(body, dict) else body
        self.status_code = status_code
        self.body = inner if isinstance(inner, dict) else None
        self.message = str(inner)
        self.code = inner.get("code") if isinstance(inner, dict) else None
        super().__init__(self.message)


class BatchApi:
    """The exchanges with one endpoint."""

    def __init__(self, endpoint: OpenAIEndpoint, pace: Pace) -> None:
        self._endpoint = endpoint
        self._pace = pace
        self._has_answered = False

    async def upload(self, path: Path, mark: str) -> str:
        """Upload a batch's file; gives its id when the server has read it. Raises InstructorError."""

        async def upload(client: Any) -> Any:
            with path.open("rb") as file:
                return await client.files.create(file=(f"taskdef-{mark}.jsonl", file), purpose="batch")

        file = await self._patiently("upload a file", upload)
        while getattr(file, "status", None) in _FILE_IS_BEING_READ:  # at some endpoints, for some seconds
            await asyncio.sleep(self._pace.first_poll)
            file_id = file.id
            file = await self._patiently("look at a file", lambda client: client.files.retrieve(file_id))  # noqa: B023
        return str(file.id)

    async def create(self, file_id: str, mark: str, began_at: float) -> Any:
        """Create a batch, once. Raises Refused, or InstructorError where it is not known what became of it."""
        began = time.monotonic()
        while True:
            try:
                return _with_id(
                    await self._client().batches.create(
                        input_file_id=file_id,
                        endpoint=COMPLETIONS,
                        completion_window="24h",
                        metadata={MARK: mark},
                    )
                )
            except Exception as error:
                wait = self._wait_or_raise("create a batch", error, began, 1)
                if getattr(error, "status_code", None) != 429:  # else it may have come into being all the same
                    wait = max(wait, began_at + self._pace.creation_settles - time.time())
            await asyncio.sleep(wait)
            try:
                found = await self.find(mark, began_at)
            except Refused as error:  # of the list, which says nothing about the batch
                raise InstructorError(error.message, next_step=error.next_step) from None
            if found is not None:
                return found

    async def find(self, mark: str, began_at: float) -> Any:
        """The batch with this mark; None where the server lists none."""

        async def find(client: Any) -> Any:
            async for batch in client.batches.list(limit=100):
                if (batch.metadata or {}).get(MARK) == mark:
                    return batch
                if batch.created_at < began_at - _DAY:  # the newest come first
                    break
            return None

        return await self._patiently("list the batches", find)

    async def look(self, batch_id: str) -> Any:
        """A batch as it stands."""

        async def look(client: Any) -> Any:
            return _with_id(await client.batches.retrieve(batch_id))

        return await self._patiently(f"look at {batch_id}", look)

    async def download(self, file_id: str, path: Path) -> bool:
        """A file's bytes into ``path``; False where the server has it no more."""

        async def download(client: Any) -> bool:
            async with client.files.with_streaming_response.content(file_id) as response:
                await response.stream_to_file(path)
            return True

        try:
            return await self._patiently(f"download {file_id}", download)
        except _Gone:
            return False

    def _client(self) -> Any:
        return self._endpoint.client()

    async def _patiently(self, what: str, call: Callable[[Any], Awaitable[T]]) -> T:
        """Do something that may be done twice, through weak minutes of the network and the server."""
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                result = await call(self._client())
            except Exception as error:
                await asyncio.sleep(self._wait_or_raise(what, error, began, tries))
            else:
                self._has_answered = True
                return result

    def _wait_or_raise(self, what: str, error: Exception, began: float, tries: int) -> float:
        """Seconds until the next try. Raises InstructorError where none is worth it."""
        import httpx2
        import openai

        where = f"openai:{self._endpoint.model}@{self._endpoint.address}"
        longest = self._pace.longest_silence if self._has_answered else self._pace.first_contact
        if isinstance(error, openai.APIStatusError):
            status, said = error.status_code, server_message(error, self._endpoint.key)
            if (status not in _TRANSIENT and status < 500) or error.code == "insufficient_quota":
                kind = _Gone if status == 404 else Refused
                raise kind(f"{where}: cannot {what} ({status}): {said}", next_step=_what_next(what, status)) from None
            self._has_answered = True
        elif isinstance(error, (openai.APIConnectionError, httpx2.TransportError, *_OF_THE_NETWORK)):
            said = one_line(str(error.__cause__ or error) or type(error).__name__, self._endpoint.key)
        else:
            raise error
        if time.monotonic() - began > longest:
            raise InstructorError(
                f"{where}: cannot {what}; last: {said}",
                next_step="repeat the same command when it is back: a batch that was submitted goes on at the server, "
                "and nothing is submitted twice",
            ) from None
        doubled: float = self._pace.first_poll * 2.0 ** (tries - 1)
        return min(max(doubled, retry_after(error) or 0.0), self._pace.longest_poll)


class Refused(InstructorError):
    """The server said no, and would say so again."""


class _Gone(Refused):
    """What was asked for by its id is not there."""


class _Unreadable(Exception):
    """A body that is no batch: half of one, a web page."""


_OF_THE_NETWORK = (ConnectionError, TimeoutError, ValueError, _Unreadable)
"""ValueError: a body that says it is JSON and is not."""


def _with_id(batch: Any) -> Any:
    if not isinstance(getattr(batch, "id", None), str) or not isinstance(getattr(batch, "status", None), str):
        raise _Unreadable(str(batch)[:1000])
    return batch


def _what_next(what: str, status: int) -> str:
    if status in (401, 403):
        return f"check the key in {KEY_VARIABLE}: it needs the right to write files and batches"
    if status in (404, 405) and what.startswith("look at"):
        return (
            f"set {KEY_VARIABLE} to a key of the project that submitted it; if the batch is gone for good, start a new "
            "run with --name NAME"
        )
    if status in (404, 405):
        return "this endpoint has no Batch API: leave --batch out"
    if status == 429:
        return "add credit, then repeat the same command: nothing is submitted twice"
    return "correct the settings, or leave --batch out"


def input_line(number: int, body: dict[str, Any]) -> bytes:
    """One request of a batch's file."""
    record = {"custom_id": str(number), "method": "POST", "url": COMPLETIONS, "body": body}
    return json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n"


def output_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(custom_id, record) of a batch's output or error file, in whatever order; lines that are none are left out: their
    requests are then missing, and counted so."""
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("custom_id"), str):
                yield record["custom_id"], record


def completion_of(record: dict[str, Any], key: str) -> Any:
    """The completion that a line of a batch's files holds. Raises LineRefused or Fault."""
    response, error = record.get("response"), record.get("error")
    if isinstance(response, dict):
        status = response.get("status_code")
        if isinstance(status, int) and status >= 400:
            raise LineRefused(status, response.get("body") or error)
        if response.get("body") is not None:
            return response["body"]
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, error)
    raise Fault(_FAULTS.get(str(code), FaultKind.SERVER_ERROR), one_line(f"{code}: {message}", key))
