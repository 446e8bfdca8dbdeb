"""What passes between an instructor's prompts and whatever answers them: a server, a batch or a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from taskdef.config import digest


@dataclass(frozen=True)
class ChatRequest:
    """One request for one response, or for the first of several independent ones."""

    purpose: str
    """One of ``scripted.PURPOSES``: for the ledger's reader; decides nothing."""
    prompt: str
    """The user's message; there is no other."""
    temperature: float
    max_tokens: int
    schema: dict[str, Any] | None = None
    """JSON schema that the response should follow, where the endpoint can be told so."""
    index: int = 0
    """Tells requests apart that are otherwise equal but want independent responses."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one request, as the endpoint counts them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Those of ``prompt_tokens`` that the endpoint had in its cache (cheaper where it has a price for them)."""

    @property
    def tokens(self) -> int:
        """What a cap in tokens counts."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Choice:
    """One text out of a reply."""

    text: str
    finish_reason: str


@dataclass(frozen=True)
class Reply:
    """What one exchange with an endpoint gave."""

    choices: tuple[Choice, ...]
    """At least one, each with a text; fewer than asked for where the endpoint gave fewer."""
    usage: Usage | None
    """None where the endpoint does not say."""
    note: str = ""
    """The name of a fault that cost only a part of what was asked for; see faults.FaultKind."""


@dataclass(frozen=True)
class ChatResponse:
    """One response that came back whole.

    Where one exchange gave several responses, its tokens and its cost are divided among them, the prompt's going to
    the first, so that sums over responses are right.
    """

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    """As the endpoint counts; 0 where it does not say."""
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    """In US dollars; None where the price is not known."""
    seconds: float = 0.0
    """From sending the try that succeeded to its whole response."""
    tries: int = 1


class ChatFailed(Exception):
    """One request got no usable response for good; others may. The caller counts it and goes on."""


class Endpoint(Protocol):
    """Something that is asked once and answers or fails; whoever calls it sees to tries, money and recording."""

    model: str
    address: str
    """Where it is: part of a request's key, so it holds no secret."""
    habits: dict[str, bool]
    """What was learned about it so far (see openai_compatible.py); kept in the ledger, so that it is learned once."""

    def takes_count(self) -> bool:
        """Whether one exchange may ask for several responses."""
        ...

    async def ask(self, request: ChatRequest, count: int) -> Reply:
        """Ask once for ``count`` responses. Raises Fault, or InstructorError where no request can succeed."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def request_fields(request: ChatRequest, *, model: str, address: str) -> dict[str, Any]:
    """Everything that decides the response: who is asked, what, how, and which of several times."""
    return {
        "model": model,
        "endpoint": address,
        "prompt": request.prompt,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "schema": request.schema,
        "index": request.index,
    }


def request_keys(request: ChatRequest, count: int, *, model: str, address: str) -> list[str]:
    """SHA-256 over ``request_fields`` for each of ``count`` indices from the request's own on.

    By these the ledger knows a request again, whether it was sent alone or as one of several.
    """
    fields: Mapping[str, Any] = request_fields(request, model=model, address=address)
    return [digest({**fields, "index": index}) for index in range(request.index, request.index + count)]
