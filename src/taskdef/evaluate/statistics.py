"""The statistics of held-out comparisons on one set of rows: intervals for an accuracy and for a difference, a test
between two models, and what many tests at once do to their p values.

All treat the test rows as the random sample: they say how far the figures could move on other rows of the same
kind, not how far they would move with another training seed; that is seeds.py's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]

_RESAMPLED_AT_ONCE = 2_000_000
"""Drawn rows held in memory at once."""


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (without continuity correction) for a proportion, as shares in [0, 1].

    Unlike the textbook p ± z·sqrt(p(1-p)/n) it stays inside [0, 1] and has a width at 0 and at 100%, where small
    models often are. Source: Wilson 1927; Newcombe 1998, method 3. Raises ValueError for an empty or impossible count.
    """
    from scipy.stats import binomtest  # half a second to import; only an evaluation needs it

    if total <= 0 or not 0 <= successes <= total:
        raise ValueError(f"no interval for {successes} successes of {total}")
    interval = binomtest(successes, total).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p of McNemar's exact test: could the discordant rows be coin tosses?

    ``only_a`` rows are right under a and wrong under b, ``only_b`` the other way round; rows on which both agree say
    nothing about the difference. No discordant row gives p = 1. Source: McNemar 1947, in its exact binomial form.
    Raises ValueError for negative counts.
    """
    from scipy.stats import binomtest

    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts cannot be negative: {only_a}, {only_b}")
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(min(only_a, only_b), only_a + only_b, 0.5).pvalue)


def wilson_share(share: float, size: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a share seen in ``size`` rows, which need not be whole: with the effective number of rows
    of repeated or clustered data in place of the counted one, it is the interval of Dean and Pagano 2015.

    Raises ValueError for a share outside [0, 1] or no rows.
    """
    from scipy.special import ndtri

    if size <= 0 or not 0 <= share <= 1:
        raise ValueError(f"no interval for a share of {share} in {size} rows")
    z = float(ndtri(0.5 + confidence / 2))
    centre = (share + z * z / (2 * size)) / (1 + z * z / size)
    reach = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def paired_bootstrap(
    differences: ArrayLike, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """The percentile interval of a mean difference, and a two-sided p: rows are drawn again with replacement.

    ``differences``: what a has more than b on each row (1, 0, -1 for one attempt each; means over seeds are fine), of
    shape (rows,). Gives (low, high, p) of their mean. p is twice the smaller share of resampled means at or beyond 0,
    at least 2 / (resamples + 1). Source: Efron and Tibshirani 1993, section 13.3. Raises ValueError for no rows.
    """
    rows = np.asarray(differences, dtype=np.float64)
    if rows.ndim != 1 or not rows.size:
        raise ValueError(f"no bootstrap of differences of shape {rows.shape}")
    generator = np.random.default_rng(seed)
    at_once = max(1, _RESAMPLED_AT_ONCE // rows.size)
    means: Floats = np.concatenate(
        [
            rows[generator.integers(0, rows.size, (min(at_once, resamples - start), rows.size))].mean(axis=1)
            for start in range(0, resamples, at_once)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    # a tail holds its bound: where most rows tie, many resampled means are exactly 0
    tail = min(int((means <= 1e-12).sum()), int((means >= -1e-12).sum()))
    return float(low), float(high), min(1.0, 2 * (tail + 1) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values, in the given order: below alpha means rejected by Holm's step-down procedure, which keeps the
    chance of a single false rejection among all tests at alpha, whatever their dependence.

    The k-th smallest of m is multiplied by m - k + 1, and none may be below a smaller one's. Source: Holm 1979.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
