"""What a parsed JSON value says as a sample: which keys mean the input and the output, and what is only a form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from taskdef.unicode import clean_unicode


class ParseFailure(StrEnum):
    """Why a response was not taken for a sample. The value is what stands before the text in a drop's detail."""

    EMPTY = "empty"
    """The response holds nothing but blanks."""
    REFUSED = "refused"
    """The instructor says that it cannot or will not."""
    CUT = "cut at the token limit"
    """The token limit cut the response before its sample was complete."""
    ONLY_THINKING = "only thinking"
    """The thinking never ends, or nothing follows it."""
    SCHEMA = "schema instead of a sample"
    """The JSON schema was repeated; no values were filled in."""
    PLACEHOLDER = "placeholder"
    """Input or output is a placeholder, such as ``...`` or ``<your question>``."""
    NO_OUTPUT = "no output"
    """There is an input, but no output that holds a text."""
    NO_INPUT = "no input"
    """There is an object or an output, but no input that holds a text."""
    NO_OBJECT = "no object"
    """There is neither a JSON object nor anything labelled as input or output."""


Reading = tuple[str, str] | ParseFailure
"""Input and output, or why there are none."""

_TELLING = [*ParseFailure]
"""The most telling first: where several readings fail, the first of these is the reason."""

INPUT_NAMES = ("input", "question", "problem", "query", "prompt", "输入", "问题")
OUTPUT_NAMES = ("output", "solution", "answer", "response", "completion", "输出", "答案")
_OPTIONS_NAMES = ("options", "choices")
_PART_NAMES = frozenset((*INPUT_NAMES, *OUTPUT_NAMES, *_OPTIONS_NAMES, "reasoning", "explanation", "steps", "text"))

_REFUSAL = re.compile(
    r"\bI(?:['’]m| am) (?:sorry|unable|not able)|\bI (?:can(?:not|['’]t)|won['’]t|apologi[sz]e)"
    r"|\bunable to (?:help|fulfil)|\bas an AI\b|抱歉|对不起|无法",
    re.IGNORECASE,
)
_REFUSED_PART = re.compile(  # narrower: "I can't log in." and "I'm sorry to hear that." are a sample
    r"(?:I(?:['’]m| am) sorry,? but |Unfortunately,? |Sorry,? (?:but )?)?"
    r"I(?: can(?:not|['’]t)|(?:['’]m| am) (?:unable|not able) to| won['’]t) "
    r"(?:help|assist|provide|create|generate|write|produce|fulfil|comply|complete|do)",
    re.IGNORECASE,
)
_ELLIPSIS = re.compile(r"[\s.…_]*|<[^<>/]{1,60}>|\[(?:insert|your|new|the) [^\]]{1,60}\]", re.IGNORECASE)
_WORD_OF_THE_FORM = re.compile(
    r"string|text|(?:your|the|new)? ?(?:input|output|question|answer|solution)(?: here)?", re.I
)
_SCHEMA_WORDS = frozenset(
    ["type", "description", "title", "pattern", "format", "enum", "examples", "default", "minLength", "maxLength"]
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NOT_A_LETTER = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_INVISIBLE = str.maketrans("", "", "\u200b\u2060\ufeff")
_DEEPEST = 8


def more_telling(one: ParseFailure, other: ParseFailure) -> ParseFailure:
    """The one that comes first in ``ParseFailure``."""
    return min(one, other, key=_TELLING.index)


def is_placeholder(text: str) -> bool:
    """Whether a text is dots, one empty tag, or ``[insert …]``."""
    return bool(_ELLIPSIS.fullmatch(text))


def is_refusal(text: str) -> bool:
    """Whether a text says, in its first 500 characters, that the writer cannot or will not."""
    return bool(_REFUSAL.search(text[:500]))


def as_draft(value: Any, depth: int = 0) -> Reading:
    """Input and output of an object, of the first object in a list that has both, or of one nested in it."""
    if isinstance(value, str):
        return _encoded_draft(value, depth)
    if depth > _DEEPEST or not isinstance(value, dict | list):
        return ParseFailure.NO_OBJECT
    if isinstance(value, list):
        if len(value) < 2 or not all(
            isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in value
        ):
            return first_draft(value, depth)
        value = dict(value)  # [["input", …], ["output", …]]
    if _is_field(value):
        return ParseFailure.SCHEMA
    reading = _own_pair(value)
    if not isinstance(reading, ParseFailure):
        return reading
    # one level down: {"sample": {"input": …, "output": …}}
    inner = first_draft([item for item in value.values() if isinstance(item, dict | list | str)], depth)
    return inner if not isinstance(inner, ParseFailure) else more_telling(reading, inner)


def checked(given: str, written: str) -> Reading:
    """The pair, unless a part is missing or a placeholder, or both are refusals."""
    if not written and not given:
        return ParseFailure.NO_INPUT
    if not written or not given:
        return ParseFailure.NO_OUTPUT if given else ParseFailure.NO_INPUT
    if is_placeholder(given) or is_placeholder(written):
        return ParseFailure.PLACEHOLDER
    if _WORD_OF_THE_FORM.fullmatch(given) and _WORD_OF_THE_FORM.fullmatch(written):
        return ParseFailure.PLACEHOLDER
    if _REFUSED_PART.match(given) and _REFUSED_PART.match(written):
        return ParseFailure.REFUSED
    return given, written


def field(value: Mapping[Any, Any], names: tuple[str, ...]) -> Any:
    """The first value, in the order of ``names``, that is not empty: whole keys first, then ``expected_output``."""
    words = {key: _NOT_A_LETTER.sub(" ", str(key).translate(_INVISIBLE)).lower().split() for key in value}
    for whole in (True, False):
        for name in names:
            for key, parts in words.items():
                fits = parts == [name] if whole else 1 < len(parts) <= 3 and parts[-1] == name
                if fits and (_is_field(value[key]) or as_text(value[key])):
                    return value[key]
    return None


def as_text(value: Any, depth: int = 0) -> str:
    """A value as the text of an input or an output; empty where it holds none.

    A list of texts is its lines; an object with keys such as ``reasoning`` and ``answer`` is their texts in order.
    Other lists and objects are data, and numbers and booleans are too: they stay in JSON's spelling.
    """
    if isinstance(value, str):
        return _CONTROL.sub("", clean_unicode(value)).strip()
    if value is None or value == [] or value == {} or depth > _DEEPEST:
        return ""
    if isinstance(value, list) and any(isinstance(item, str) for item in value):
        return "\n".join(filter(None, (as_text(item, depth + 1) for item in value)))
    if isinstance(value, dict) and not _PART_NAMES.isdisjoint(map(_last_word, value)):
        return "\n".join(filter(None, (_part(_last_word(key), item, depth + 1) for key, item in value.items())))
    try:
        return clean_unicode(json.dumps(value, ensure_ascii=False))
    except (ValueError, TypeError, RecursionError):  # a number of more than 4,300 digits; nesting
        return ""


def _own_pair(value: dict[Any, Any]) -> Reading:
    given, written = field(value, INPUT_NAMES), field(value, OUTPUT_NAMES)
    if _is_field(given) and _is_field(written):
        return ParseFailure.SCHEMA
    return checked(_with_options(as_text(given), value), as_text(written))


def _part(word: str, value: Any, depth: int) -> str:
    if word in _OPTIONS_NAMES and isinstance(value, dict):
        return "\n".join(f"{as_text(key)}: {as_text(item, depth)}" for key, item in value.items())
    return as_text(value, depth)


def _with_options(text: str, value: dict[Any, Any]) -> str:
    """The question with the options that stand beside it, unless it names them itself."""
    options = field(value, _OPTIONS_NAMES)
    lines = _part(_OPTIONS_NAMES[0], options, 0) if isinstance(options, dict | list) else ""
    return f"{text}\n{lines}" if text and lines and lines.split("\n")[0] not in text else text


def first_draft(items: list[Any], depth: int = 0) -> Reading:
    """The first sample among values; else one whose input and output stand in different objects."""
    failure = ParseFailure.NO_OBJECT
    for item in items:
        reading = as_draft(item, depth + 1)
        if not isinstance(reading, ParseFailure):
            return reading
        failure = more_telling(failure, reading)
    merged: dict[Any, Any] = {}
    for item in items:
        for key, part in item.items() if isinstance(item, dict) else ():
            merged.setdefault(key, part)
    reading = _own_pair(merged)
    return reading if not isinstance(reading, ParseFailure) else failure


def _encoded_draft(text: str, depth: int) -> Reading:
    if depth > _DEEPEST or not text.lstrip().startswith(("{", "[")):
        return ParseFailure.NO_OBJECT
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return ParseFailure.NO_OBJECT
    return as_draft(value, depth + 1)


def _is_field(value: Any) -> bool:
    """Whether a value describes a field, as in a JSON schema: ``{"type": "string", "description": "…"}``."""
    return isinstance(value, dict) and bool(value.keys() & {"type", "description"}) and value.keys() <= _SCHEMA_WORDS


def _last_word(key: Any) -> str:
    return (_NOT_A_LETTER.sub(" ", str(key)).lower().split() or [""])[-1]
