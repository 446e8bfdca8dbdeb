"""JSON in text: whole values by the standard library, broken ones by json-repair. Never eval."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import json_repair

from taskdef.instruct.latex import escape_latex

LONGEST = 60_000
"""Characters looked at: a sample is never longer."""
_LONGEST_REPAIR = 20_000
_MOST_BRACKETS = 1_000
_MOST_LOOKING_AHEAD = 3_000_000
"""json-repair's time grows with the square of the nesting and with quotation marks times length: 20,000 characters of
``'a'b`` take 11 seconds. Within these limits it takes at most some tenths of a second."""
_QUOTATION_MARKS = re.compile("[\"'“”‘’`]")
_MOST_TRIES = 64
"""Openings tried: each failure may have read the text to its end."""
_OPENING = re.compile(r"\{\s{0,99}[\"}]|\[\s{0,99}[\"{\[\]\d-]")
_ENCODED = re.compile(r"[{\[](?:\\[nt]|\s){0,99}\\{1,3}\"")
_ENTITY = re.compile(r"&(?:quot|#0{0,3}34|#x0{0,3}22);", re.IGNORECASE)
_DECODER = json.JSONDecoder(strict=False)  # not strict: models put line breaks into strings


@dataclass(frozen=True)
class Found:
    """A JSON value and where it stood."""

    value: Any
    start: int
    end: int


def find_whole(text: str) -> list[Found]:
    """Objects and lists that are valid JSON (line breaks in strings and single LaTeX backslashes let pass), in order.

    Positions refer to the text with its LaTeX escaped (``escape_latex``).
    """
    found, position = [], 0
    for _ in range(_MOST_TRIES):
        opening = _OPENING.search(text, position)
        if opening is None:
            break
        try:
            value, position = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position = opening.start() + 1
            continue
        found.append(Found(value, opening.start(), position))
    return found


def decoded_text(text: str) -> str | None:
    r"""The text decoded, where its JSON is written a JSON string (``{\"a\": 1}``) or HTML (``{&quot;``); or None."""
    opening = _ENCODED.search(text)
    if opening:
        body = text[opening.start() : max(text.rfind("}"), text.rfind("]")) + 1]
        try:
            return str(json.loads(f'"{body}"', strict=False))
        except ValueError:
            return None
    if not _ENTITY.search(text):
        return None
    try:
        return html.unescape(text)
    except ValueError:  # &#1111…; with more digits than Python reads
        return None


def repaired(text: str) -> Iterator[Any]:
    """Objects and lists in a broken text, as json-repair makes them out; none where it would take too long."""
    opening = re.search(r"[{\[]", text)
    broken = text[opening.start() :][:_LONGEST_REPAIR] if opening else ""
    looking_ahead = len(_QUOTATION_MARKS.findall(broken)) * len(broken)
    if not broken or sum(map(broken.count, "{[(")) > _MOST_BRACKETS or looking_ahead > _MOST_LOOKING_AHEAD:
        return
    try:
        value = json_repair.loads(broken)
    except (ValueError, RecursionError):
        return
    yield from value if isinstance(value, list) and any(isinstance(item, dict) for item in value) else [value]


def unescaped(body: str) -> str:
    """What a JSON string with this body says: escapes read, LaTeX and unescaped quotation marks kept."""
    body = re.sub(r'(?<!\\)\\+"', '"', body).replace('"', '\\"')
    body = escape_latex(body)
    if (len(body) - len(body.rstrip("\\"))) % 2:
        body = body[:-1]
    try:
        return str(json.loads(f'"{body}"', strict=False))
    except ValueError:
        return body
