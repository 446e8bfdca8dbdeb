"""Finding an answer in a text strictly, as the task says, one function a format. Linear in the text's length."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from taskdef.errors import DefinitionError
from taskdef.records import AnswerReading, AnswerSpec
from taskdef.verify.numbers import number_at

_AFTER_MARKER = re.compile(r"[\s:=*_]*(?:\\\(\s*|\$\s*(?=[\-+.0-9\\]))?")
_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\\boxed\s+([^\s{}$]+)")


@dataclass(frozen=True)
class AnswerFound:
    """An answer and the place where it ends."""

    answer: str
    end: int
    """Index behind the last character that could still have grown had the text gone on; ``len(text)`` where a cut
    may have gone through the answer."""


def find_answer(spec: AnswerSpec, text: str) -> AnswerFound | None:
    """Find the answer strictly, as ``spec`` says. None where the text holds none.

    Whatever a user's own function raises comes out of here.
    """
    match spec.read:
        case AnswerReading.NUMBER_AFTER_MARKER:
            return find_number_after(spec.marker, text)
        case AnswerReading.BOXED:
            return find_boxed(text)
        case AnswerReading.TAG:
            return find_tagged(spec.tag, text)
        case AnswerReading.EXACT:
            stripped = text.strip()
            return AnswerFound(stripped, len(text)) if stripped else None
        case AnswerReading.REGEX:
            return find_matched(spec.pattern or "", text)
        case AnswerReading.FUNCTION:
            return _find_by_function(spec.function or "", text)


def find_number_after(marker: str, text: str) -> AnswerFound | None:
    """The number right behind the last marker; blanks, colons and emphasis may stand between."""
    at = text.rfind(marker)
    if at < 0:
        return None
    gap = _AFTER_MARKER.match(text, at + len(marker))
    position = gap.end() if gap else at + len(marker)
    number = number_at(text, position)
    if number is None:
        return None
    end = number.end
    # "12." may be the start of "12.5", "3/" of "3/4": cut there, the number is not known to be whole.
    if text[end:] in {".", ",", "/", "\\"}:
        end = len(text)
    return AnswerFound(number.text, end)


def find_boxed(text: str) -> AnswerFound | None:
    r"""The content of the last balanced ``\boxed{...}``, innermost where they are nested."""
    open_braces: list[tuple[int, bool]] = []  # content start, is a box
    best: tuple[int, int] | None = None
    for token in _BOX_TOKEN.finditer(text):
        kind = token[0]
        if kind == "}":
            if open_braces:
                start, is_box = open_braces.pop()
                if is_box and (best is None or start > best[0]):
                    best = (start, token.start())
        elif kind.endswith("{") and kind != "\\{":
            open_braces.append((token.end(), kind != "{"))
    for bare in _BARE_BOX.finditer(text):  # TeX also takes a single token without braces: \boxed 5
        if best is None or bare.start(1) > best[0]:
            content = bare[1].rstrip(".,;:")
            return AnswerFound(content, bare.end(1)) if content else None
    if best is None:
        return None
    content = text[best[0] : best[1]].strip()
    return AnswerFound(content, best[1]) if content else None


def find_tagged(tag: str, text: str) -> AnswerFound | None:
    """The trimmed content of the last complete ``<tag>…</tag>``; upper and lower case are the same."""
    name = re.escape(tag)
    closers = [match.start() for match in re.finditer(rf"</{name}\s*>", text, re.IGNORECASE)]
    if not closers:
        return None
    opener_end = -1
    for opener in re.finditer(rf"<{name}\s*>", text, re.IGNORECASE):
        if opener.start() > closers[-1]:
            break
        opener_end = opener.end()
    if opener_end < 0:
        return None
    end = next((closer for closer in closers if closer >= opener_end), None)
    if end is None:
        return None
    content = text[opener_end:end].strip()
    return AnswerFound(content, end) if content else None


def find_matched(pattern: str, text: str) -> AnswerFound | None:
    """The first group (or the whole) of the pattern's last match."""
    last: re.Match[str] | None = None
    for match in re.finditer(pattern, text):
        last = match
    if last is None:
        return None
    group = 1 if last.re.groups else 0
    content = (last[group] or "").strip()
    return AnswerFound(content, last.end(group)) if content else None


def import_function(dotted: str) -> Callable[[str], str | None]:
    """Import the user's reading function. Raises DefinitionError with the value and the reason."""
    module_name, _, name = dotted.rpartition(".")
    hint = "give package.module.function; taskdef looks in the folder it is started in and among installed packages"
    if not module_name:
        raise DefinitionError(f"answer.function: {dotted!r} is no dotted path", next_step=hint)
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise DefinitionError(f"answer.function: {dotted!r} cannot be imported: {reason}", next_step=hint) from error
    if not callable(function):
        raise DefinitionError(f"answer.function: {dotted!r} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def _find_by_function(dotted: str, text: str) -> AnswerFound | None:
    answer = import_function(dotted)(text)
    if answer is None:
        return None
    if not isinstance(answer, str):
        raise TypeError(f"{dotted} returned {type(answer).__name__}; a string or None was expected")
    answer = answer.strip()
    if not answer:
        return None
    # Only the function knows where it looked; an answer at the very end of the text may have been cut.
    return AnswerFound(answer, len(text) if text.endswith(answer) else 0)
