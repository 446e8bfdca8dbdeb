"""How figures, settings and likely names stand in everything that a person reads: terminal, report, messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def duration(seconds: float) -> str:
    """``0.4 s``, ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def setting_text(value: Any) -> str:
    """A setting's value as ``--set`` reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or "''"


def nearest(given: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The known name that is most like a mistyped one; None where none is like it at least by ``cutoff``."""
    import difflib  # here: only a message about a mistake needs it

    close = difflib.get_close_matches(given, list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(name: str | None) -> str:
    """The end of a message; empty where there is no such name."""
    return "" if name is None else f"; did you mean {name}?"
