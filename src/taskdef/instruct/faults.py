"""What can go wrong between a request and its response: one name each, counted in the ledger, shown in the report."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from enum import StrEnum

from taskdef.instruct.chat import Usage

_LONGEST = 300
_ABOUT_THE_SCHEMA = re.compile(r"response.?format|schema|grammar|pattern", re.IGNORECASE)


class FaultKind(StrEnum):
    """Why an exchange gave no response, or not all that was asked for."""

    RATE_LIMITED = "rate_limited"
    """429: too many requests or tokens."""
    UNAVAILABLE = "unavailable"
    """503 or 529: overloaded or restarting."""
    SERVER_ERROR = "server_error"
    """Any other 5xx."""
    REJECTED = "rejected"
    """Any other 4xx: this request will not pass."""
    NO_CONNECTION = "no_connection"
    """Nothing listens there, or the network is down."""
    CONNECTION_LOST = "connection_lost"
    """The connection broke before the whole response was there."""
    TIMED_OUT = "timed_out"
    """No connection, no first byte or no end within the time limits."""
    NOT_JSON = "not_json"
    """The body is not JSON: half of it, a web page."""
    NOT_UTF8 = "not_utf8"
    """The body's bytes are no text."""
    NO_COMPLETION = "no_completion"
    """JSON, but no chat completion."""
    NO_CHOICE = "no_choice"
    """A completion without a choice."""
    EMPTY = "empty"
    """A choice without text."""
    REFUSED = "refused"
    """The model declined to answer."""
    WRONG_COUNT = "wrong_count"
    """Fewer or more responses than asked for, from an endpoint that gave the right number before."""
    TOO_LARGE = "too_large"
    """A body or text far longer than the tokens that were asked for can make."""
    EXPIRED = "expired"
    """A batch came to its end before this request's turn."""
    CANCELLED = "cancelled"
    """Its batch was cancelled at the server before this request's turn."""


OVERLOAD = frozenset({FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.TIMED_OUT})
"""Faults that say: fewer at once."""
OF_THE_MODEL = frozenset({FaultKind.NO_CHOICE, FaultKind.EMPTY, FaultKind.REFUSED})
"""Faults that a model repeats on the same prompt more often than a server does: tried again a few times only."""
NEVER_BILLED = frozenset(
    {
        FaultKind.RATE_LIMITED,
        FaultKind.UNAVAILABLE,
        FaultKind.REJECTED,
        FaultKind.NO_CONNECTION,
        FaultKind.EXPIRED,
        FaultKind.CANCELLED,
    }
)
"""Faults before any model was at work."""


class Fault(Exception):
    """An exchange without a response."""

    def __init__(
        self, kind: FaultKind, detail: str, *, retry_after: float | None = None, usage: Usage | None = None
    ) -> None:
        super().__init__(f"{kind.value.replace('_', ' ')}: {detail}")
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""
        self.usage = usage
        """Tokens that the endpoint counted all the same."""


def kind_of_status(status: int) -> FaultKind:
    """The fault that an HTTP status of 400 or more stands for."""
    if status == 429:
        return FaultKind.RATE_LIMITED
    if status in (503, 529):
        return FaultKind.UNAVAILABLE
    if status in (408, 425):
        return FaultKind.TIMED_OUT
    return FaultKind.SERVER_ERROR if status >= 500 or status == 409 else FaultKind.REJECTED


def server_message(error: Exception, key: str) -> str:
    """What the server said, in one line of bounded length, without the key: some proxies repeat the request's headers,
    and these words stand in drops.jsonl and the report."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    return one_line(str(said or getattr(error, "message", "") or error), key)


def one_line(text: str, key: str) -> str:
    """A text for a message and for the ledger: on one line, of bounded length, ``[key]`` for each occurrence of the
    key, without what moves a terminal's cursor or fits into no file."""
    line = " ".join(text.replace(key, "[key]")[: 10 * _LONGEST].split())[:_LONGEST]
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def is_too_long(message: str) -> bool:
    """Whether a refusal is about this one prompt's length: other requests may pass."""
    return "context" in message.lower()


def is_about_schema(message: str) -> bool:
    """Whether a refusal names the JSON schema or what a server makes of it."""
    return _ABOUT_THE_SCHEMA.search(message) is not None


def retry_after(error: Exception) -> float | None:
    """Seconds that the server asks to wait; None where it does not say, or says it unreadably."""
    response = getattr(error, "response", None)
    value = response.headers.get("retry-after") if response is not None else None
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds == seconds else None  # not NaN
