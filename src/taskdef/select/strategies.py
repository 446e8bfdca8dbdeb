"""Which of the scored samples are trained on (paper section 3.3 and Table 4).

A strategy orders the samples; the first M are taken. Equal ranks are ordered by a hash of seed and id, so that the
choice among equals is random, yet the same in every run with the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from taskdef.records import PassRate, Sample

Strategy = Literal["high-potential", "easy", "hard", "random", "all"]


RATELESS: frozenset[Strategy] = frozenset({"random", "all"})
"""The strategies that do not look at pass rates."""


def potential(rate: float) -> float:
    """The paper's score: the pass rate, but 1 for a sample that was never solved. Low is good."""
    return rate if rate > 0 else 1.0


_RANKS: Mapping[Strategy, Callable[[float], float]] = {
    "high-potential": potential,
    "easy": lambda rate: -rate,
    "hard": lambda rate: rate,
    "random": lambda rate: 0.0,
    "all": lambda rate: 0.0,
}


def rank(strategy: Strategy, rate: float) -> float:
    """Where a pass rate stands under a strategy; low comes first."""
    return _RANKS[strategy](rate)


def choose(
    samples: Sequence[Sample], rates: Sequence[PassRate], *, strategy: Strategy, size: int, seed: int
) -> list[Sample]:
    """The training set, best first; ``all`` takes every sample, the others at most ``size``.

    A sample without any judged attempt has no pass rate and is never chosen, except by ``random`` and ``all``, which
    do not look at rates.
    """
    needs_rate = strategy not in RATELESS
    rate_of = {rate.sample_id: rate.rate for rate in rates}
    ranked = [
        (rank(strategy, rate_of[sample.id] or 0.0), tie_break(seed, sample.id), sample)
        for sample in samples
        if not needs_rate or rate_of[sample.id] is not None
    ]
    ranked.sort(key=lambda entry: entry[:2])
    chosen = [sample for _, _, sample in ranked]
    return chosen if strategy == "all" else chosen[:size]


def tie_break(seed: int, sample_id: str) -> bytes:
    """Orders samples of equal rank: random, yet the same in every run with the seed."""
    return hashlib.sha256(f"{seed}:{sample_id}".encode()).digest()
