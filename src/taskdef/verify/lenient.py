"""Lenient reading: what a person would take for the answer where the task's format was not kept.

Evaluation reads every completion both ways, so that a gain in format and a gain in answers can be told apart.
"""

from __future__ import annotations

import re

from taskdef.records import AnswerComparison, AnswerSpec
from taskdef.verify.compare import is_permitted
from taskdef.verify.extract import AnswerFound, find_answer, find_boxed
from taskdef.verify.numbers import last_number

_MATHS = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_TAIL = 20_000
"""Characters from the end in which formulas and labels are looked for; an answer stands near the end."""


def find_leniently(spec: AnswerSpec, text: str) -> AnswerFound | None:
    """The strict answer where it could be one; else what the kind of comparison lets one fall back on.

    numeric: the last box or number. math: the last box, formula or number. choice, label_set, text with choices:
    the last choice that is mentioned on its own. Everything else: strict reading only.
    """
    strict = find_answer(spec, text)
    if strict is not None and is_permitted(spec, strict.answer):
        return strict
    # "<answer>I take B</answer>" is read strictly but is no choice: look inside it first, then everywhere.
    if strict is not None and (inside := _fall_back(spec, strict.answer)) is not None:
        touches = strict.end >= len(text) and inside.end >= len(strict.answer)
        return AnswerFound(inside.answer, len(text) if touches else 0)
    return _fall_back(spec, text) or strict


def _fall_back(spec: AnswerSpec, text: str) -> AnswerFound | None:
    match spec.compare:
        case AnswerComparison.NUMERIC:
            boxed = find_boxed(text)
            return boxed if boxed is not None and is_permitted(spec, boxed.answer) else _number(text)
        case AnswerComparison.MATH:
            return find_boxed(text) or _formula(text) or _number(text)
        case AnswerComparison.LABEL_SET:
            return _labels(spec.choices, text)
        case AnswerComparison.CHOICE | AnswerComparison.TEXT:
            return _choice(spec.choices, text)


def _number(text: str) -> AnswerFound | None:
    number = last_number(text)
    if number is None:
        return None
    return AnswerFound(number.text, len(text) if text[number.end :] in {".", ",", "/"} else number.end)


def _formula(text: str) -> AnswerFound | None:
    offset = max(0, len(text) - _TAIL)
    last = None
    for match in _MATHS.finditer(text, offset):
        last = match
    if last is None or last.lastindex is None or not last[last.lastindex].strip():
        return None
    content = last[last.lastindex].strip()
    # "$x = 5$": what follows the equals sign is the answer.
    content = content.rpartition("=")[2].strip() or content
    return AnswerFound(content, last.end(last.lastindex))


def _choice(choices: tuple[str, ...], text: str) -> AnswerFound | None:
    tail = text[max(0, len(text) - _TAIL) :]
    mentions = _mentions(choices, tail)
    if not mentions:
        return None
    announced = [mention for mention in mentions if _is_announced(tail, mention[0])]
    _, end, choice = (announced or mentions)[-1]
    return AnswerFound(choice, len(text) if end >= len(tail) else 0)


def _labels(choices: tuple[str, ...], text: str) -> AnswerFound | None:
    """All labels on the last line that mentions one."""
    tail = text[max(0, len(text) - _TAIL) :]
    mentions = _mentions(choices, tail)
    if not mentions:
        return None
    line_start = tail.rfind("\n", 0, mentions[-1][0]) + 1
    named = [choice for start, _, choice in mentions if start >= line_start]
    return AnswerFound(", ".join(dict.fromkeys(named)), len(text) if mentions[-1][1] >= len(tail) else 0)


_ANNOUNCEMENT = re.compile(r"(?i:answer|choice|option)\s*(?:is|to be|[:=])\s*[:(\[*\"'$\s]*\Z")
"""Directly before a choice: "the answer is (", "Correct option: "."""


def _is_announced(text: str, position: int) -> bool:
    return _ANNOUNCEMENT.search(text[max(0, position - 40) : position]) is not None


def _mentions(choices: tuple[str, ...], text: str) -> list[tuple[int, int, str]]:
    """(start, end, choice) of every choice mentioned as a whole word, in order; the longer choice wins at a place.

    Single letters must be capitals as given, and an "A" or "I" that opens a phrase ("A man …") is an English word.
    """
    if not choices:
        return []
    by_fold = {choice.casefold(): choice for choice in choices}
    names = "|".join(re.escape(choice) for choice in sorted(choices, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])", re.IGNORECASE)
    mentions = []
    for match in pattern.finditer(text):
        word = match[0]
        choice = by_fold.get(word.casefold())
        if choice is None or (len(choice) == 1 and word != choice):
            continue
        is_word = word in {"A", "I"} and re.match(r"\s+[a-z]|'", text[match.end() : match.end() + 3])
        if is_word and not _is_announced(text, match.start()):
            continue
        mentions.append((match.start(), match.end(), choice))
    return mentions
