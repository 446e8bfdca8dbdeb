"""The pit of a wrong response: the step at which it went wrong (arXiv 2406.14532; three rules are in use)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from taskdef.train.q_values import StepValues, advantages


class PitRule(StrEnum):
    """Which step of a wrong response is its pit; the first one where several are alike."""

    LEAST_ADVANTAGE = "least-advantage"
    """The step with the greatest loss of Q."""
    LOWEST_Q = "lowest-q"
    """The step after which Q is lowest. The last, which ends the response and so has a Q of 0, only where no other has
    a Q below V(x)."""
    FIRST_ZERO = "first-zero"
    """The step after which no rollout is correct."""


def find_pit(values: Sequence[float], rule: PitRule) -> int | None:
    """Number of the pit's step, counted from 0, by V(x) and the Q of all steps (shape S + 1).

    None where nothing was lost: the problem was never solved, or no step has a Q below V(x) (lowest-q), below the one
    before it (least-advantage), or of 0 (first-zero).
    """
    start, *after = values
    if not after or start == 0:
        return None
    if rule is PitRule.LEAST_ADVANTAGE:
        lost = advantages(values)
        return lost.index(min(lost)) if min(lost) < 0 else None
    if rule is PitRule.LOWEST_Q:
        lowest = min(after[:-1], default=start)
        if lowest < start:
            return after.index(lowest)
        return len(after) - 1 if after[-1] < start else None
    return after.index(0.0) if 0.0 in after else None


def cut_at_pit(values: StepValues, stop_ids: frozenset[int]) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """The tokens before the pit's step, that step's tokens without a stop token, and the Q after it.

    Raises ValueError where the response has no pit.
    """
    if values.pit is None:
        raise ValueError(f"a response to {values.problem_id} has no pit to cut at")
    before = values.ends[values.pit - 1] if values.pit else 0
    step = without_stop(values.ids[before : values.ends[values.pit]], stop_ids)
    return values.ids[:before], step, values.values[values.pit + 1]


def without_stop(ids: tuple[int, ...], stop_ids: frozenset[int]) -> tuple[int, ...]:
    """The tokens without the stop token that may end them."""
    return ids[:-1] if ids and ids[-1] in stop_ids else ids
