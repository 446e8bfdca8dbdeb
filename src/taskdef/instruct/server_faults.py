"""What a server's refusal or failure says: in words, about what, and when to ask again."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

_LONGEST = 300
_ABOUT_THE_SCHEMA = re.compile(r"response.?format|schema|grammar|pattern", re.IGNORECASE)


def server_message(error: Exception, key: str) -> str:
    """What the server said, in one line of bounded length, without the key: some proxies repeat the request's headers,
    and these words stand in drops.jsonl and the report."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    return without_key(" ".join(str(said or getattr(error, "message", "") or error).split()), key)[:_LONGEST]


def without_key(text: str, key: str) -> str:
    """The text with ``[key]`` for each occurrence of the key."""
    return text.replace(key, "[key]")


def is_too_long(message: str) -> bool:
    """Whether a refusal is about this one prompt's length: other requests may pass."""
    return "context" in message.lower()


def is_about_schema(message: str) -> bool:
    """Whether a refusal names the JSON schema or what a server makes of it."""
    return _ABOUT_THE_SCHEMA.search(message) is not None


def retry_after(fault: Exception) -> float | None:
    """Seconds that the server asks to wait; None where it does not say, or says it unreadably."""
    response = getattr(fault, "response", None)
    value = response.headers.get("retry-after") if response is not None else None
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
