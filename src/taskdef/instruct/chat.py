"""What passes between an instructor's prompts and whatever answers them: a server or a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from taskdef.config import digest


@dataclass(frozen=True)
class ChatRequest:
    """One request for one response."""

    purpose: str
    """keywords, pattern, generate, answer, harder or easier: for the ledger's reader; decides nothing."""
    prompt: str
    """The user's message; there is no other."""
    temperature: float
    max_tokens: int
    schema: dict[str, Any] | None = None
    """JSON schema that the response should follow, where the endpoint can be told so."""
    index: int = 0
    """Tells requests apart that are otherwise equal but want independent responses."""


@dataclass(frozen=True)
class ChatResponse:
    """One response that came back whole."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    """As the endpoint counts; 0 where it does not say."""
    completion_tokens: int = 0
    seconds: float = 0.0
    """From sending the try that succeeded to its whole response."""
    tries: int = 1


class ChatFailed(Exception):
    """One request got no usable response for good; others may. The caller counts it and goes on."""


class ChatModel(Protocol):
    """Something that answers requests."""

    model: str
    endpoint: str
    """Where it is: part of a request's key, so it holds no secret."""
    failed_tries: int
    """Tries that failed so far, in this process."""

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer a request. Raises ChatFailed for this request alone, InstructorError where no request can succeed."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def request_fields(request: ChatRequest, *, model: str, endpoint: str) -> dict[str, Any]:
    """Everything that decides the response: who is asked, what, how, and which of several times."""
    return {
        "model": model,
        "endpoint": endpoint,
        "prompt": request.prompt,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "schema": request.schema,
        "index": request.index,
    }


def request_key(chat: ChatModel, request: ChatRequest) -> str:
    """SHA-256 over ``request_fields``, by which the ledger knows a request again."""
    return digest(request_fields(request, model=chat.model, endpoint=chat.endpoint))
