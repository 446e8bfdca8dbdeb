"""Fewer attempts for the same choice: which samples are still open, and which are in.

The fixed choice is the one that ``attempts`` attempts on every sample would make. Its order is total (rank by pass
rate, then the tie-break), so each sample's place in it follows from the final tallies, which ``prediction`` predicts.
A sample is in where fewer than M others come before it. How many do is a sum of independent yes-or-no events, nearly
normal, so a sample i with final tally k is in with chance

    chance(i | k) = Phi((M - 1/2 - m) / s),   m = sum of b_j,  s^2 = sum of b_j (1 - b_j)  over the others j,

where b_j is the chance that j comes before (k, tie-break of i). To choose by these chances misses the expected share
``sum over all of min(chance, 1 - chance) / 2M`` of the fixed choice (a miss is one sample wrongly out and one wrongly
in). Samples are settled, the surest first, as long as that share stays under 1 - agreement; the others are open and
get a further round of attempts. Never solved so far is no special case: the prediction says how likely a first success
still is, and what place it would give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from taskdef.config import SelectConfig
from taskdef.records import PassRate, Sample
from taskdef.select.prediction import Floats, predict_counts
from taskdef.select.strategies import RATELESS, choose, rank, tie_break

_ROUNDS = 8
"""Rounds that the full number of attempts is divided into; the first is made on every sample."""
_SHORTEST_ROUND = 4
"""Attempts of a round, at the least: a rate from fewer says nothing, and every round reads the prompts once more."""


@dataclass(frozen=True)
class Choice:
    """What came of a scoring that stopped where it could."""

    rates: tuple[PassRate, ...]
    """The tallies, in the order of the samples."""
    selected: tuple[Sample, ...]
    """The training set, best first."""
    agreement: float
    """Expected share of the fixed choice that was found."""


def choose_adaptively(
    samples: Sequence[Sample],
    config: SelectConfig,
    *,
    seed: int,
    attempt: Callable[[Sequence[int], int], Sequence[PassRate]],
) -> Choice:
    """Score in rounds until the choice is settled.

    ``attempt(places, count)`` makes ``count`` further attempts on each of the samples at these places, and gives the
    tallies of all samples so far, in their order.
    """
    step = min(config.attempts, max(_SHORTEST_ROUND, -(-config.attempts // _ROUNDS)))
    rates = attempt(range(len(samples)), step)
    if config.strategy in RATELESS:
        chosen = choose(samples, rates, strategy=config.strategy, size=config.size, seed=seed)
        return Choice(tuple(rates), tuple(chosen), agreement=1.0)
    while True:
        chance = chances(samples, rates, config, seed=seed)
        places = open_places(chance, rates, config)
        if not places:
            break
        # the last round is shorter where the rounds do not divide the attempts, and a settled sample may open again
        left = {place: min(step, config.attempts - _made(rates[place])) for place in places}
        for count in sorted(set(left.values()), reverse=True):
            rates = attempt([place for place in places if left[place] == count], count)
    chosen = choose_likely(samples, rates, chance, config, seed=seed)
    return Choice(tuple(rates), tuple(chosen), agreement=1 - _misses(chance) / min(config.size, len(samples)))


def chances(samples: Sequence[Sample], rates: Sequence[PassRate], config: SelectConfig, *, seed: int) -> Floats:
    """Each sample's chance to be in the fixed choice, shape len(samples); see the module's formula.

    ``rates`` are the tallies so far, in the order of the samples. Once all attempts are made, chances are 0 or 1.
    """
    attempts = config.attempts
    ranks = [rank(config.strategy, count / attempts) for count in range(attempts + 1)]
    # some strategies rank two tallies alike: the columns become the chances of the ranks, best first
    _, level = np.unique(ranks, return_inverse=True)
    order = sorted(range(len(samples)), key=lambda place: tie_break(seed, samples[place].id))
    counts = predict_counts(rates, attempts)[order]
    at = np.stack([counts[:, level == one].sum(axis=1) for one in range(level.max() + 1)], axis=1)
    better = np.cumsum(at, axis=1) - at
    not_worse = better + at
    # of the samples earlier in the tie-break those of the same rank come before, of the later ones those of a better
    mean = _before(not_worse) + _after(better)
    variance = _before(not_worse * (1 - not_worse)) + _after(better * (1 - better))
    inside = (at * ndtr((config.size - 0.5 - mean) / np.sqrt(np.maximum(variance, 1e-12)))).sum(axis=1)
    result = np.empty(len(samples))
    result[order] = inside
    return result


def open_places(chance: Floats, rates: Sequence[PassRate], config: SelectConfig) -> list[int]:
    """Places of the samples that get another round: neither settled nor attempted ``config.attempts`` times."""
    exhausted = np.array([_made(rate) >= config.attempts for rate in rates])
    doubt = np.minimum(chance, 1 - chance)
    # what no attempt of its own can settle any more counts first: it is only in doubt because of the others
    order = np.lexsort((doubt, ~exhausted))
    misses = np.cumsum(doubt[order]) / 2
    allowed = (1 - config.agreement) * min(config.size, len(rates))
    unsettled = order[misses > allowed + 1e-9]
    return sorted(int(place) for place in unsettled if not exhausted[place])


def choose_likely(
    samples: Sequence[Sample], rates: Sequence[PassRate], chance: Floats, config: SelectConfig, *, seed: int
) -> list[Sample]:
    """The samples most likely to be in the fixed choice, ordered as ``choose`` orders them by their rates so far.

    A rate from few attempts is too rough to choose by: 0 of 8 may all but surely be a middling sample.
    """
    ties = [tie_break(seed, sample.id) for sample in samples]
    likely = sorted(range(len(samples)), key=lambda place: (-round(float(chance[place]), 9), ties[place]))
    kept = sorted(likely[: config.size])
    return choose(
        [samples[place] for place in kept],
        [rates[place] for place in kept],
        strategy=config.strategy,
        size=config.size,
        seed=seed,
    )


def _made(rate: PassRate) -> int:
    return rate.attempts + rate.verifier_errors


def _misses(chance: Floats) -> float:
    """Expected number of samples of the fixed choice that a choice by these chances leaves out."""
    return float(np.minimum(chance, 1 - chance).sum()) / 2


def _before(values: Floats) -> Floats:
    """Column sums over the earlier rows."""
    summed: Floats = np.cumsum(values, axis=0) - values
    return summed


def _after(values: Floats) -> Floats:
    """Column sums over the later rows."""
    summed: Floats = values.sum(axis=0) - np.cumsum(values, axis=0)
    return summed
