"""Getting data out of what a model wrote: json-repair, and what it lacks. Never eval.

What models do to JSON and json-repair alone gets wrong: LaTeX inside strings, where ``\frac`` is read as a form feed
and ``rac`` without any error; prose and several objects around the wanted one; keys in capitals or under other names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import json_repair

from taskdef.unicode import clean_unicode

LONGEST = 60_000
"""Characters looked at: a sample is never longer."""
_LONGEST_REPAIR = 20_000
_MOST_BRACKETS = 2_000
"""json-repair's time grows with the square of the nesting: 60,000 brackets take seconds, 2,000 milliseconds."""
_OBJECTS_TRIED = 12

_INPUT_KEYS = ("input", "question", "problem")
_OUTPUT_KEYS = ("output", "solution", "answer", "response")
_THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_OPENING = re.compile(r"[{\[]")
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_LATEX = (
    r"[bf][a-zA-Z]"  # backspace and form feed before a letter are always a command: \beta, \frac
    r"|t(?:imes|heta|anh?|ext\w*|frac|o|op|au|riangle\w*|herefore|ilde)(?![a-z])"
    r"|r(?:ight\w*|ho|angle|floor|ceil|m)(?![a-z])"
    r"|n(?:u|eq?|abla|ot|otin|eg|geq|leq|mid)(?![a-z])"
    r"|u(?![0-9a-fA-F]{4})"
    r'|[^"\\/bfnrtu]'
)
_BACKSLASH = re.compile(rf"\\(?:\\|(?P<command>(?:{_LATEX}))|.)", re.DOTALL)
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")


def read_draft(text: str) -> tuple[str, str] | None:
    """Input and output of a sample in a response; None where there is no object that has both, as non-empty texts."""
    for value in find_values(text):
        pair = _as_draft(value)
        if pair is not None:
            return pair
    return None


def read_output(text: str) -> str | None:
    """The output in a response that was to be an object of it alone; None where there is no such object."""
    for value in find_values(text):
        if isinstance(value, dict) and (output := _as_text(value.get("output"))):
            return output
    return None


def read_keywords(text: str) -> list[str]:
    """Keywords from a JSON list or object, or from a plain list of lines or commas; each once, in order."""
    for value in find_values(text):
        found = _as_texts(value)
        if found:
            return found
    plain = _THINKING.sub("", text[:LONGEST]).strip()
    if not plain or plain[0] in "{[":
        return []
    lines = [line for line in plain.splitlines() if line.strip() and not line.rstrip().endswith(":")]
    pieces = lines if len(lines) > 1 else re.split(r"[,;]", plain)
    words = [_LIST_MARK.sub("", piece).strip(" \"'`.*") for piece in pieces]
    return list(dict.fromkeys(word for word in words if word and len(word.split()) <= 6))


def find_values(text: str) -> Iterator[Any]:
    """Objects and lists in a text, the likeliest reading first: whole ones, then repaired ones."""
    text = _THINKING.sub("", text[:LONGEST])
    fenced = [match.group(1) for match in _FENCE.finditer(text)][:_OBJECTS_TRIED]
    candidates = [escape_latex(candidate) for candidate in [*fenced, text]]
    decoder = json.JSONDecoder(strict=False)  # not strict: models put line breaks into strings
    for candidate in candidates:
        position = 0
        for _ in range(_OBJECTS_TRIED):
            opening = _OPENING.search(candidate, position)
            if opening is None:
                break
            try:
                value, position = decoder.raw_decode(candidate, opening.start())
            except (ValueError, RecursionError):
                position = opening.start() + 1
                continue
            yield value
    for candidate in candidates:
        opening = _OPENING.search(candidate)
        broken = candidate[opening.start() :][:_LONGEST_REPAIR] if opening else ""
        if broken and broken.count("{") + broken.count("[") <= _MOST_BRACKETS:
            try:
                value = json_repair.loads(broken)
            except (ValueError, RecursionError):
                continue
            yield from value if isinstance(value, list) and any(isinstance(v, dict) for v in value) else [value]


def escape_latex(text: str) -> str:
    r"""Double the backslashes that begin a LaTeX command or no JSON escape at all: ``\frac`` -> ``\\frac``."""
    return _BACKSLASH.sub(lambda match: "\\" + match.group(0) if match["command"] else match.group(0), text)


def _as_draft(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return None
    keys = {str(key).strip().lower(): key for key in value}
    found = []
    for names in (_INPUT_KEYS, _OUTPUT_KEYS):
        texts = [_as_text(value[keys[name]]) for name in names if name in keys]
        found.append(next((text for text in texts if text), ""))
    if all(found) and set(found) != {"..."}:
        return found[0], found[1]
    # one level down: {"sample": {"input": …, "output": …}}
    return next((pair for inner in value.values() if (pair := _as_draft(inner)) is not None), None)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return clean_unicode(value).strip()
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(item, str | int | float) for item in value):
        return clean_unicode("\n".join(str(item) for item in value)).strip()
    return ""


def _as_texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return list(dict.fromkeys(word for inner in value.values() for word in _as_texts(inner)))
    if isinstance(value, str):
        return [clean_unicode(value).strip()] if value.strip() else []
    if isinstance(value, list):
        return list(dict.fromkeys(word for inner in value for word in _as_texts(inner)))
    return []
