"""Whether two answers are the same answer."""

from __future__ import annotations

import logging
import re
import unicodedata
from decimal import Decimal

from taskdef.records import AnswerComparison, AnswerSpec
from taskdef.verify.numbers import number_value

_SURROUNDING = " \t\r\n.,;:!?\"'`*_()[]{}<>\u201c\u201d\u2018\u2019\xab\xbb"
"""Punctuation that may stand round an answer without changing it. Signs, units and currency are not among it."""
_SEPARATORS = re.compile(r"[,;/&\n]|\band\b", re.IGNORECASE)


def same_answer(spec: AnswerSpec, a: str, b: str) -> bool:
    """Whether ``b`` says the same as ``a``; where a comparison has a direction, ``a`` is the reference.

    An error inside a comparison comes out of here; the isolated verifier turns it into VERIFIER_ERROR.
    """
    match spec.compare:
        case AnswerComparison.NUMERIC:
            return same_number(a, b, spec.tolerance)
        case AnswerComparison.MATH:
            return same_mathematics(a, b)
        case AnswerComparison.CHOICE:
            return choice_key(spec.choices, a) == choice_key(spec.choices, b)
        case AnswerComparison.LABEL_SET:
            return label_keys(spec.choices, a) == label_keys(spec.choices, b)
        case AnswerComparison.TEXT:
            return text_key(a) == text_key(b)


def warm_up(spec: AnswerSpec) -> None:
    """Load what comparing needs, so that no single comparison's time limit pays for it."""
    if spec.compare is AnswerComparison.MATH:
        same_mathematics("1", "2")
        same_mathematics(r"\frac{x}{2}", "x/2")


def is_permitted(spec: AnswerSpec, answer: str) -> bool:
    """Whether ``answer`` is of the kind the task wants: a number, one of the choices, labels that are all known.

    Mathematics and text without choices permit everything.
    """
    match spec.compare:
        case AnswerComparison.NUMERIC:
            return number_value(answer) is not None
        case AnswerComparison.CHOICE:
            return choice_key(spec.choices, answer) in {text_key(choice) for choice in spec.choices}
        case AnswerComparison.LABEL_SET:
            known = {text_key(choice) for choice in spec.choices}
            return not spec.choices or label_keys(spec.choices, answer) <= known
        case AnswerComparison.TEXT:
            return not spec.choices or text_key(answer) in {text_key(choice) for choice in spec.choices}
        case AnswerComparison.MATH:
            return True


def same_number(a: str, b: str, tolerance: float) -> bool:
    """Equal within a relative tolerance.

    A percent sign may be a unit that one side left out ("25%" = "25") or count as a hundredth ("25%" = "0.25" =
    "1/4"); "25" and "0.25" stay different. What is no number equals only its own text, and "nan" not even that.
    """
    first, second = number_value(a), number_value(b)
    if first is None or second is None:
        key = text_key(a)
        return first is second and key == text_key(b) and key.lstrip("+-") not in {"nan", "inf", "infinity"}
    (x, x_percent), (y, y_percent) = first, second
    if _close(x, y, tolerance):
        return True
    if x_percent != y_percent:
        return _close(x / 100, y, tolerance) if x_percent else _close(x, y / 100, tolerance)
    return False


def _close(x: Decimal, y: Decimal, tolerance: float) -> bool:
    return x == y or abs(x - y) <= Decimal(tolerance) * max(abs(x), abs(y))


def same_mathematics(a: str, b: str) -> bool:
    """Mathematically equivalent by math-verify, ``a`` being the reference.

    Its own time limits work by signals, which need the main thread; they are off, since the isolated verifier
    limits the time from outside.
    """
    first, second = _bare_formula(a), _bare_formula(b)
    if "".join(first.split()) == "".join(second.split()):
        return first.casefold() not in {"nan", r"\text{nan}"}
    from math_verify import parse, verify  # half a second with SymPy: only tasks that need it pay for it

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns once about the limits switched off on purpose
    reference, candidate = (parse(f"${text}$", parsing_timeout=None) for text in (first, second))
    if not reference or not candidate:
        return text_key(first) == text_key(second)
    return bool(verify(reference, candidate, timeout_seconds=None, raise_on_error=True))


def _bare_formula(text: str) -> str:
    text = text.strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        inner = text[len(opening) : len(text) - len(closing)]
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            return inner.strip()
    return text


def choice_key(choices: tuple[str, ...], answer: str) -> str:
    """A choice without case and wrapping: "(B)", "b.", "**B**" and, among letters, "B. Paris" are all "b"."""
    key = text_key(re.sub(r"^\\(?:text|textbf|mathrm|mathbf)\{(.*)\}$", r"\1", answer.strip().strip("$")))
    known = {text_key(choice) for choice in choices}
    if key in known or not all(len(choice) == 1 for choice in known):
        return key
    lettered = re.match(r"\(?([a-z0-9])(?:\)|[.:])\s*\S", answer.strip().strip("*").casefold())
    return lettered[1] if lettered and lettered[1] in known else key


def label_keys(choices: tuple[str, ...], answer: str) -> frozenset[str]:
    """The set of labels an answer names; labels that hold a separator themselves are recognised whole."""
    rest, keys = answer, set()
    for choice in sorted(choices, key=len, reverse=True):
        if _SEPARATORS.search(choice):
            whole = re.compile(rf"(?<!\w){re.escape(choice)}(?!\w)", re.IGNORECASE)
            if whole.search(rest):
                keys.add(text_key(choice))
                rest = whole.sub(",", rest)
    keys |= {text_key(piece) for piece in _SEPARATORS.split(rest)}
    return frozenset(keys - {""})


def text_key(text: str) -> str:
    """Text without case, superfluous blanks and surrounding punctuation."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_SURROUNDING) or folded
