"""Reading an answer out of a text, strictly; and the way back, the shortest text that reads so."""

from __future__ import annotations

import re

from taskdef.errors import DefinitionError
from taskdef.records import AnswerReading, AnswerSpec
from taskdef.verify.extract import find_answer


def read_answer(spec: AnswerSpec, text: str) -> str | None:
    """Read the answer strictly, as ``spec`` says. None where the text holds none.

    Whatever a user's own function raises comes out of here; the isolated verifier turns it into VERIFIER_ERROR.
    """
    found = find_answer(spec, text)
    return found.answer if found else None


def render_answer(spec: AnswerSpec, answer: str) -> str:
    """The shortest text in the task's format from which ``read_answer`` gives ``answer`` back.

    Raises DefinitionError where there is none: the answer does not suit the format, or the format is a regular
    expression or a function that cannot be turned round.
    """
    match spec.read:
        case AnswerReading.NUMBER_AFTER_MARKER:
            candidates = [f"{spec.marker} {answer}"]
        case AnswerReading.BOXED:
            candidates = [rf"\boxed{{{answer}}}"]
        case AnswerReading.TAG:
            candidates = [f"<{spec.tag}>{answer}</{spec.tag}>"]
        case AnswerReading.EXACT | AnswerReading.FUNCTION:
            candidates = [answer]
        case AnswerReading.REGEX:
            candidates = [answer, *_through_pattern(spec.pattern or "", answer)]
    for candidate in candidates:
        if read_answer(spec, candidate) == answer:
            return candidate
    raise DefinitionError(f"the answer {answer!r} cannot be written so that `read: {spec.read.value}` reads it back")


def _through_pattern(pattern: str, answer: str) -> list[str]:
    """Texts in which the answer stands where a simple pattern's first group stands."""
    group = re.search(r"(?<!\\)\((?!\?)", pattern)
    if group is None:
        return []
    depth, position = 1, group.end()
    while position < len(pattern) and depth:
        if pattern[position] == "\\":
            position += 1
        depth += {"(": 1, ")": -1}.get(pattern[position : position + 1], 0)
        position += 1
    before, behind = _literal(pattern[: group.start()]), _literal(pattern[position:])
    return [before + answer, before + answer + behind]


def _literal(piece: str) -> str:
    """A text that a simple piece of a pattern matches: blanks for ``\\s``, escapes undone, anchors left out."""
    piece = re.sub(r"\(\?[a-zA-Z]+\)", "", piece)
    piece = re.sub(r"(?:\\.|.)[*?]\??", "", piece).replace(r"\s+", " ").replace(r"\s", " ")
    piece = re.sub(r"\\[bBAZ]|(?<!\\)[\^$]", "", piece)
    return re.sub(r"\\(.)", r"\1", piece)
