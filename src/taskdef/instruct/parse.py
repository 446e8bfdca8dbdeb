"""Getting samples and keywords out of what a model wrote, or saying why there are none. Never eval.

Readings are tried from the surest to the most tolerant: valid JSON, JSON that is itself encoded, the values at known
keys of a broken object, json-repair's idea of it, tags, labels. tests/instruct/malformed/ holds the forms that are
read, and those that must not be. Time grows linearly with the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from taskdef.instruct.draft_form import (
    OUTPUT_NAMES,
    ParseFailure,
    Reading,
    as_draft,
    as_text,
    field,
    first_draft,
    is_placeholder,
    is_refusal,
    more_telling,
)
from taskdef.instruct.json_text import LONGEST, Found, decoded_text, find_whole, repaired
from taskdef.instruct.labelled import END_OF_CUT, read_fields, read_labels, read_output_field, read_tags
from taskdef.instruct.latex import escape_latex
from taskdef.instruct.thinking import Response, without_thinking

_INVISIBLE = str.maketrans("", "", "\u200b\u2060\ufeff")
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")
_DEEPEST = 8
_SIDE_BY_SIDE = re.compile(r"[\s,;`~\[\]]*(?:json)?[\s`~]*|\s*\d{1,2}[.)]\s*", re.IGNORECASE)


def read_draft(text: str, *, cut: bool = False) -> Reading:
    """Input and output of the sample in a response, or why there is none.

    ``cut``: the token limit ended the response, so a value that runs to its end is not taken for complete.
    """
    response = without_thinking(text)
    answer = response.text[:LONGEST]
    if not answer.translate(_INVISIBLE).strip():
        return ParseFailure.CUT if cut else ParseFailure.ONLY_THINKING if response.thought else ParseFailure.EMPTY
    failure = ParseFailure.NO_OBJECT
    for reading in _readings(answer, response, cut):
        if not isinstance(reading, ParseFailure):
            if cut and any(END_OF_CUT in part for part in reading):
                return ParseFailure.CUT
            return reading
        failure = more_telling(failure, reading)
    if cut:
        return ParseFailure.CUT
    if response.unclosed:
        return ParseFailure.ONLY_THINKING
    return ParseFailure.REFUSED if is_refusal(answer) else failure


def read_output(text: str, *, cut: bool = False) -> str | None:
    """The output in a response that was to be an object of it alone; None where there is no such object."""
    answer = without_thinking(text).text[:LONGEST]
    for found in find_whole(escape_latex(answer)):
        if isinstance(found.value, dict) and (output := as_text(field(found.value, OUTPUT_NAMES))):
            return output
    output = read_output_field(answer.translate(_INVISIBLE) + (END_OF_CUT if cut else ""))
    return output if output and END_OF_CUT not in output else None


def read_keywords(text: str) -> list[str]:
    """Keywords from a JSON list or object, or from a plain list of lines or commas; each once, in order."""
    answer = without_thinking(text).text[:LONGEST]
    for value in _values(answer):
        found = [word for word in _as_texts(value) if not is_placeholder(word)]
        if found:
            return found
    plain = answer.strip()
    if not plain or plain[0] in "{[" or is_refusal(plain):
        return []
    lines = [line for line in plain.splitlines() if line.strip() and not line.rstrip().endswith(":")]
    pieces = lines if len(lines) > 1 else re.split(r"[,;]", plain)
    words = [" ".join(_LIST_MARK.sub("", as_text(piece)).split()).strip(" \"'`.*") for piece in pieces]
    return list(dict.fromkeys(word for word in words if word and len(word.split()) <= 6))


def _readings(answer: str, response: Response, cut: bool) -> Iterator[Reading]:
    if response.unclosed:
        if not cut:
            yield _whole_draft(answer, at_end=True)
        return
    yield _whole_draft(answer, at_end=False)
    decoded = decoded_text(answer)
    if decoded is not None:
        yield _whole_draft(decoded, at_end=False)
    visible = answer.translate(_INVISIBLE) + (END_OF_CUT if cut else "")
    fields = list(read_fields(visible))
    yield from fields
    for value in repaired(escape_latex(visible)):
        yield as_draft(value)
    if all(reading is ParseFailure.NO_INPUT for reading in fields):  # else tags and labels are content
        yield from read_tags(visible)
        yield from read_labels(visible)


def _whole_draft(answer: str, *, at_end: bool) -> Reading:
    """The sample among the valid objects.

    Objects side by side are several samples, and the first is taken. Prose between two objects means that the later
    one replaces the earlier: an example and then the real one, a slip and then its correction.
    """
    text = escape_latex(answer)
    found = find_whole(text)
    failure: Reading = first_draft([item.value for item in found])
    if not found or (at_end and not _SIDE_BY_SIDE.fullmatch(text[found[-1].end :][:200])):
        return failure if isinstance(failure, ParseFailure) else ParseFailure.ONLY_THINKING
    chosen: Reading | None = None
    previous: Found | None = None
    for item in found:
        reading = as_draft(item.value)
        if isinstance(reading, ParseFailure):
            continue
        between = text[previous.end : item.start][:200] if previous else ""
        if chosen is None or not _SIDE_BY_SIDE.fullmatch(between):
            chosen = reading
        previous = item
    return chosen or failure


def _values(answer: str) -> Iterator[Any]:
    yield from (found.value for found in find_whole(answer))
    yield from repaired(answer)


def _as_texts(value: Any, depth: int = 0) -> list[str]:
    if isinstance(value, str):
        return [text] if (text := as_text(value)) else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if depth > _DEEPEST:
        return []
    return list(dict.fromkeys(word for item in inner for word in _as_texts(item, depth + 1)))
