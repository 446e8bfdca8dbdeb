"""How figures and foreign texts are put on the page. None is shown as a dash: not measured is not zero."""

from __future__ import annotations

import math

from taskdef import readable

MODEL_NAMES = {"base": "Base model", "warm_up": "After warm-up", "tuned": "Tuned model"}
"""What the report calls the evaluated models."""

_DASH = "\u2013"
_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Marks that turn the direction of what follows: one in a sample would turn the page's own words around."""
_CONTROL = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    **dict.fromkeys(_BIDI, "\ufffd"),
}


def model_name(name: str) -> str:
    """The report's words for an evaluated model."""
    return MODEL_NAMES.get(name, name)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage; a whole one without digits."""
    if share is None or not math.isfinite(share):
        return _DASH
    return f"{100 * share:.0f}%" if share in (0, 1) else f"{100 * share:.{digits}f}%"


def points(difference: float | None) -> str:
    """A difference in percentage points, always with its sign."""
    if difference is None:
        return _DASH
    return f"{difference:+.1f}".replace("-", "\u2212")


def number(value: float | None) -> str:
    """A count or a measured figure, with thousands set apart and no more digits than it is worth."""
    if value is None or not math.isfinite(value):
        return _DASH
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.3g}".replace("e-0", "e-") if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """Wall time in the two largest units."""
    return _DASH if seconds is None else readable.duration(seconds)


def p_value(p: float | None) -> str:
    """A p value as it is usually printed."""
    if p is None:
        return _DASH
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_words(p: float | None) -> str:
    """What a two-sided p value says, in plain words."""
    if p is None:
        return "nothing could be compared"
    if p < 0.001:
        return "chance does not explain this difference"
    if p < 0.05:
        return "chance is an unlikely explanation"
    return "this could well be chance"


def words(name: str) -> str:
    """An enum's value or a key as words."""
    return name.replace("_", " ").replace("-", " ")


def clean(text: str) -> str:
    """Text that any browser shows as it is: control characters made visible, what is not Unicode, or turns the
    direction of writing, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8").translate(_CONTROL)


def clip(text: str | None, limit: int) -> str:
    """At most ``limit`` characters of a text, saying how many were left out."""
    if text is None:
        return _DASH
    shown = clean(text[:limit])
    return shown if len(text) <= limit else f"{shown} … ({number(len(text) - limit)} more characters)"


def one_line(text: str, limit: int = 120) -> str:
    """A text's beginning on one line."""
    flat = " ".join(clean(text[: 4 * limit]).split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"
