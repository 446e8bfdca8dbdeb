"""What the full number of attempts would say of every sample, predicted from the attempts made so far.

A sample's attempts are independent draws with an unknown rate. The rates of all samples together are taken as drawn
from one distribution, which is estimated from all tallies (empirical Bayes), so a sample that was not solved in eight
attempts is judged by how common hopeless samples are in this very pool. Which samples are attempted further depends on
the tallies only, so stopping early does not distort the likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlog1py, xlogy

from taskdef.records import PassRate

Floats: TypeAlias = NDArray[np.float64]

RATES: Floats = np.sin(np.linspace(0, np.pi / 2, 49)) ** 2
"""The rates that a sample may have: 49, even on the arcsine scale, on which a rate's standard error is the same
everywhere; so they stand dense near 0, where the order is decided, and hold 0 and 1."""

_ITERATIONS = 60
"""Of the estimate of the rates' distribution. It starts even; to go on for long would fit it to chance."""


def predict_counts(rates: Sequence[PassRate], attempts: int) -> Floats:
    """Chance of every number of correct attempts, once ``attempts`` are made on each sample.

    Shape: len(rates) x (attempts + 1), rows sum to 1. Where verifier errors make attempts fewer, the number is brought
    to the scale of ``attempts``, as rates are what counts. A row is all 0 where every attempt is made and missing.
    """
    tallies = np.array([(rate.attempts + rate.verifier_errors, rate.attempts, rate.correct) for rate in rates])
    distinct, place, many = np.unique(tallies, axis=0, return_inverse=True, return_counts=True)
    beliefs = _beliefs(distinct[:, 1], distinct[:, 2], many)
    rows = np.zeros((len(distinct), attempts + 1))
    for row, (made, judged, correct), belief in zip(rows, distinct, beliefs, strict=True):
        left = attempts - made
        if judged + left == 0:
            continue
        final = correct + np.arange(left + 1)
        np.add.at(row, np.rint(final * attempts / (judged + left)).astype(int), belief @ _binomial(left))
    return rows[place.reshape(-1)]


def _beliefs(judged: NDArray[np.int64], correct: NDArray[np.int64], many: NDArray[np.int64]) -> Floats:
    """Chance of every rate in ``RATES`` for each tally, shape tallies x rates.

    The distribution over all samples is fitted by expectation-maximization (Laird 1978); one imaginary sample, spread
    evenly over the rates, keeps any of them possible.
    """
    likelihood = np.exp(xlogy(correct[:, None], RATES) + xlog1py((judged - correct)[:, None], -RATES))
    prior = np.full(len(RATES), 1 / len(RATES))
    for _ in range(_ITERATIONS):
        belief = likelihood * prior
        belief /= belief.sum(axis=1, keepdims=True)
        prior = (many @ belief + 1 / len(RATES)) / (many.sum() + 1)
    belief = likelihood * prior
    normalised: Floats = belief / belief.sum(axis=1, keepdims=True)
    return normalised


def _binomial(left: int) -> Floats:
    """Chance of 0..``left`` further correct attempts at every rate, shape rates x (left + 1)."""
    count = np.arange(left + 1)
    ways = gammaln(left + 1) - gammaln(count + 1) - gammaln(left - count + 1)
    chance: Floats = np.exp(ways + xlogy(count, RATES[:, None]) + xlog1py(left - count, -RATES[:, None]))
    return chance
