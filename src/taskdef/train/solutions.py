"""Which of a model's own attempts to learn from: correct, whole, distinct, without a wrong step that shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from rapidfuzz.distance import Levenshtein

from taskdef.config import RftConfig
from taskdef.records import Attempt, Verdict
from taskdef.train.equations import written_equations


class Fate(StrEnum):
    """What became of one attempt."""

    KEPT = "kept"
    """Learned from."""
    UNSOLVED = "unsolved"
    """Wrong, cut before its answer, or without one."""
    UNJUDGED = "unjudged"
    """The verifier failed: missing data."""
    CUT = "cut"
    """Correct, but as long as a response may be: it need not have ended by itself."""
    WRONG_EQUATION = "wrong_equation"
    """Correct at the end, with an equation on the way that does not hold."""
    SAME = "same"
    """Not distinct from a solution that is kept."""
    OVER_CAP = "over_cap"
    """Distinct, but enough are kept of this sample."""


def choose_solutions(
    attempts: Sequence[Attempt], settings: RftConfig, *, max_new_tokens: int, verified: str | None = None
) -> tuple[list[str], Counter[Fate]]:
    """The solutions kept of one sample's attempts, and the fate of each attempt, counted.

    Attempts are looked at in their order. ``verified`` is a solution that is learned anyway: what is not distinct from
    it is not kept, and it does not count into the cap.
    """
    kept: list[str] = []
    fates: Counter[Fate] = Counter()
    known = [] if verified is None else [verified]
    for attempt in attempts:
        fate = _fate(attempt, known, full=len(kept) >= settings.most_solutions, settings=settings, limit=max_new_tokens)
        fates[fate] += 1
        if fate is Fate.KEPT:
            kept.append(attempt.text)
            known.append(attempt.text)
    return kept, fates


def is_whole(attempt: Attempt, max_new_tokens: int) -> bool:
    """Whether an attempt ended by itself for certain: one as long as the limit may have been cut."""
    return attempt.token_count < max_new_tokens


def are_distinct(a: str, b: str, min_distance: float) -> bool:
    """Whether two solutions differ: by their lists of equations, else by their normalized edit distance."""
    equations = _equations(a), _equations(b)
    if all(equations):
        return equations[0] != equations[1]
    texts = " ".join(a.split()), " ".join(b.split())
    return texts[0] != texts[1] and Levenshtein.normalized_distance(*texts) >= min_distance


def _fate(attempt: Attempt, known: Sequence[str], *, full: bool, settings: RftConfig, limit: int) -> Fate:
    if attempt.verdict is Verdict.VERIFIER_ERROR:
        return Fate.UNJUDGED
    if attempt.verdict is not Verdict.CORRECT:
        return Fate.UNSOLVED
    if not is_whole(attempt, limit):
        return Fate.CUT
    if not all(equation.holds for equation in written_equations(attempt.text)):
        return Fate.WRONG_EQUATION
    if not all(are_distinct(attempt.text, other, settings.min_distance) for other in known):
        return Fate.SAME
    return Fate.OVER_CAP if full else Fate.KEPT


def _equations(text: str) -> list[str]:
    return [equation.text for equation in written_equations(text)]
