"""The two statistics of a held-out comparison: an interval for one accuracy, a test between two.

Both treat the test rows as the random sample: they say how far the figures could move on other rows of the same
kind, not how far they would move with another training seed.
"""

from __future__ import annotations


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
