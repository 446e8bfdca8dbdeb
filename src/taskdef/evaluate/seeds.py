"""Means over several seeds on the same rows, with both kinds of chance in their intervals: other seeds, other rows.

Right and wrong answers of one variant are an array of shape (seeds, rows). Its grand mean varies with the seeds and
with the rows, and the usual shortcuts leave one of them out: all answers pooled (rows come back with every seed), a
bootstrap over rows (seeds as given), a t test over the seeds' means (rows as given). Both together are the two-way
random-effects model of readers and cases in diagnostic medicine, where the readers are the seeds:

    y_sr = mean + seed_s + row_r + rest_sr        Var(mean) = (MS_seeds + MS_rows - MS_rest) / (S R)

with degrees of freedom after Hillis 2007 ("A comparison of denominator degrees of freedom methods for multiple
observer ROC analysis", Statistics in Medicine 26: 596-619), which replaced Dorfman, Berbaum and Metz's of 1992. The
difference of two variants is the same model on the differences, cell by cell.

Counts can come out equal for all seeds by chance, most easily where few rows differ. MS_seeds is then 0, and its
formula would call any difference certain. Rows are what there is to go by then: Var(mean) = MS_rows / (S R), with
MS_rest in its place where that is larger, with the normal distribution as for one seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from taskdef.evaluate.statistics import mcnemar_exact, wilson_interval, wilson_share

_NO_VARIATION = 1e-9
"""Below every MS_seeds of seeds that differ by one answer, and above what rounding leaves of 0."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; shares in [0, 1], or differences of such."""

    mean: float
    low: float
    high: float
    p: float | None = None
    """Two-sided, that the expected mean is 0; None where nothing was tested."""


@dataclass(frozen=True)
class _Variation:
    mean: float
    variance: float
    """Of the mean."""
    freedom: float
    """Hillis' denominator degrees of freedom; infinite where all seeds come out equal."""


def accuracy_over_seeds(right: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean accuracy of one variant, ``right`` (0 or 1) of shape (seeds, rows), and where it would be with other
    seeds on other rows.

    One seed: Wilson's interval. Several: Wilson's interval for as many independent rows as carry the same variance,
    widened from z to t, so that it stays inside [0, 1]. Raises ValueError where there is nothing.
    """
    table = _table(right)
    if len(table) == 1:
        return Estimate(float(table.mean()), *wilson_interval(int(table.sum()), table.size, confidence))
    found = _variation(table)
    alone = found.mean * (1 - found.mean)
    least = alone / table.size
    variance = max(found.variance, least)
    if variance <= 0:  # all right or all wrong: the rows are what there is to go by
        return Estimate(found.mean, *wilson_share(found.mean, table.shape[1], confidence))
    stretch = _t_bound(found.freedom, confidence) / _t_bound(math.inf, confidence)
    return Estimate(found.mean, *wilson_share(found.mean, alone / (variance * stretch**2), confidence))


def difference_over_seeds(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """How much more a has right than b, both of shape (seeds, rows) with the same seeds and rows in the same places.

    One seed: the p is McNemar's exact test's, the interval that of a normal approximation over the rows. Several: the
    two-way model of the module, t interval and t test. Where every cell's difference is the same there is no variance
    to go by, and McNemar's test on the rows says what it can. Raises ValueError where shapes differ or hold nothing.
    """
    of_a, of_b = _table(a), _table(b)
    if of_a.shape != of_b.shape:
        raise ValueError(f"no pairs in tables of shapes {of_a.shape} and {of_b.shape}")
    table = of_a - of_b
    if len(table) == 1:
        mean, rows = float(table.mean()), table.size
        reach = _t_bound(math.inf, confidence) * math.sqrt(float(table.var(ddof=1 if rows > 1 else 0)) / rows)
        p = mcnemar_exact(int((table > 0).sum()), int((table < 0).sum()))
        return Estimate(mean, max(-1.0, mean - reach), min(1.0, mean + reach), p)
    found = _variation(table)
    if found.variance < _NO_VARIATION / table.size:
        rows = table.shape[1]
        return Estimate(found.mean, found.mean, found.mean, mcnemar_exact(*((rows, 0) if found.mean else (0, 0))))
    from scipy.stats import t

    error = math.sqrt(found.variance)
    reach = _t_bound(found.freedom, confidence) * error
    p = float(2 * t.sf(abs(found.mean) / error, found.freedom))
    return Estimate(found.mean, max(-1.0, found.mean - reach), min(1.0, found.mean + reach), p)


def deviation_over_seeds(right: ArrayLike) -> float | None:
    """Standard deviation (n - 1) of the seeds' accuracies; None for one seed."""
    table = _table(right)
    return float(table.mean(axis=1).std(ddof=1)) if len(table) > 1 else None


def _table(values: ArrayLike) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"expected answers of shape (seeds, rows), got {table.shape}")
    return table


def _variation(table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> _Variation:
    """Two-way random effects without replication: mean squares of seeds, rows and the rest."""
    seeds, rows = table.shape
    mean = float(table.mean())
    of_seeds, of_rows = table.mean(axis=1), table.mean(axis=0)
    by_seed = rows * float(((of_seeds - mean) ** 2).sum()) / (seeds - 1)
    by_row = seeds * float(((of_rows - mean) ** 2).sum()) / max(1, rows - 1)
    rest = table - of_seeds[:, None] - of_rows[None, :] + mean
    by_rest = float((rest**2).sum()) / max(1, (seeds - 1) * (rows - 1))
    if by_seed < _NO_VARIATION:
        return _Variation(mean, max(by_row, by_rest) / (seeds * rows), math.inf)
    from_rows = max(0.0, by_row - by_rest)
    freedom = (seeds - 1) * ((by_seed + from_rows) / by_seed) ** 2
    return _Variation(mean, (by_seed + from_rows) / (seeds * rows), freedom)


def _t_bound(freedom: float, confidence: float) -> float:
    from scipy.stats import norm, t

    upper = 0.5 + confidence / 2
    return float(norm.ppf(upper) if math.isinf(freedom) else t.ppf(upper, freedom))
