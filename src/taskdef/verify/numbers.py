"""Numbers as people and models write them: signs, currency, separators, decimals, fractions, percent.

Everything here is linear in the text's length, whatever the text holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation

_CURRENCY = r"(?:\\?[$€£¥₹]\s*)"
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"""
    (?P<sign>[+\-\u2212\u2013]\s*)?{_CURRENCY}?(?P<late_sign>[+\-\u2212])?
    (?:
        \\[dt]?frac\s*\{{\s*(?P<top>-?[0-9]+)\s*\}}\s*\{{\s*(?P<bottom>-?[0-9]+)\s*\}}
      | (?P<whole>[0-9]+)\s+(?P<part>[0-9]+)\s*/\s*(?P<of>[0-9]+)
      | (?P<plain>{_PLAIN})(?:[eE](?P<exponent>[+-]?[0-9]+))?(?:\s*/\s*(?P<under>{_PLAIN}))?
    )
    (?P<percent>\s*\\?%)?
    """,
    re.VERBOSE,
)
_CONTINUES = re.compile(r"[.,][0-9]|_[0-9]")
_LONGEST = 1000
"""Digits beyond which a number is compared as text: nobody's answer, and slow to compute with."""
_CONTEXT = Context(prec=60, traps=[])


@dataclass(frozen=True)
class NumberFound:
    """A number in a text."""

    text: str
    """Normalised: no currency, no thousands separators, ASCII sign, ``3/4`` and ``1 3/4`` for fractions."""
    start: int
    end: int


def number_at(text: str, position: int) -> NumberFound | None:
    """The number that starts exactly at ``position``; None where there is none or it has a form like ``1,23``."""
    match = _NUMBER.match(text, position)
    if match is None or _CONTINUES.match(text, match.end()):
        return None
    return NumberFound(_normalised(match), match.start(), match.end())


def last_number(text: str) -> NumberFound | None:
    """The last number in a text."""
    last_digit = max(text.rfind(digit) for digit in "0123456789")
    if last_digit < 0:
        return None
    found = None
    # A window keeps this fast on megabytes of digits; no honest number is longer.
    for match in _NUMBER.finditer(text, max(0, last_digit - _LONGEST)):
        # "10-4" holds a ten and a four, "x-4" a four: a sign that follows a word is a minus, not the number's own.
        follows_word = match.start() > 0 and (text[match.start() - 1].isalnum() or text[match.start() - 1] in ")]}")
        signed = match["sign"] is not None and follows_word
        found = number_at(text, match.end("sign")) if signed else None
        found = found or NumberFound(_normalised(match), match.start(), match.end())
    return found


def number_value(answer: str) -> tuple[Decimal, bool] | None:
    """The value of an answer that is a number and nothing else, and whether a percent sign follows it.

    ``("25%")`` gives ``(25, True)``: what the sign means is the comparison's business. None for anything else,
    for a zero denominator, and for numbers too long to compute with.
    """
    stripped = answer.strip().strip("*_`").rstrip(".").strip()
    if stripped.startswith("$") and stripped.endswith("$") and len(stripped) > 1:
        stripped = stripped[1:-1].strip()
    if len(stripped) > _LONGEST:
        return None
    match = _NUMBER.fullmatch(stripped)
    if match is None:
        return None
    normalised = _normalised(match).rstrip("%")
    whole, _, fraction = normalised.rpartition(" ")
    top, _, bottom = fraction.partition("/")
    try:
        value = _CONTEXT.divide(Decimal(top), Decimal(bottom)) if bottom else Decimal(top)
        if whole:
            value = _CONTEXT.add(Decimal(whole), value.copy_sign(Decimal(whole)))
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value.adjusted()) > _LONGEST:
        return None
    return value, match["percent"] is not None


def _normalised(match: re.Match[str]) -> str:
    sign = (match["sign"] or match["late_sign"] or "").strip()
    minus = "-" if sign and sign != "+" else ""
    percent = "%" if match["percent"] else ""
    if match["top"] is not None:
        body = f"{match['top']}/{match['bottom']}"
    elif match["whole"] is not None:
        body = f"{match['whole']} {match['part']}/{match['of']}"
    else:
        body = match["plain"].replace(",", "")
        if match["exponent"] is not None:
            body += f"e{match['exponent']}"
        if match["under"] is not None:
            body += "/" + match["under"].replace(",", "")
    return minus + body + percent
