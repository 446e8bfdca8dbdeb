import numpy as np
import pytest

from taskdef.evaluate.statistics import holm, mcnemar_exact, paired_bootstrap, wilson_interval, wilson_share


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_newcombes_published_examples(successes: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_everything_right_is_the_mirror_of_nothing_right() -> None:
    low, high = wilson_interval(20, 20)
    assert (low, high) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)


def test_wilson_by_hand() -> None:
    # z = 1.959964, z^2 = 3.841459; 5 of 10: centre (5 + 1.920729) / 13.841459 = 0.5,
    # half width z * sqrt(10 * .25 + .960365) / 13.841459 = 1.959964 * 1.860206 / 13.841459 = 0.263407
    assert wilson_interval(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_an_empty_or_impossible_count(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson_interval(successes, total)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (1, 9, 2 * (1 + 10) / 2**10),
        (10, 3, 2 * (1 + 13 + 78 + 286) / 2**13),
        (6, 0, 2 / 2**6),
        (0, 0, 1.0),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_is_the_two_sided_binomial_tail(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar_exact(only_a, only_b) == pytest.approx(p)
    assert mcnemar_exact(only_b, only_a) == pytest.approx(p)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


@pytest.mark.parametrize(("only_a", "only_b", "p"), [(86, 150, 3.715936e-05), (121, 59, 4.434449e-06)])
def test_mcnemar_on_published_tables(only_a: int, only_b: int, p: float) -> None:
    """Agresti's approval ratings (Categorical Data Analysis, table 10.1), and the table of statsmodels' documentation;
    the exact p values are those of statsmodels 0.15."""
    assert mcnemar_exact(only_a, only_b) == pytest.approx(p, rel=1e-6)


def test_wilson_of_a_share_is_wilson_of_the_counts_and_takes_parts_of_rows() -> None:
    assert wilson_share(81 / 263, 263) == pytest.approx(wilson_interval(81, 263))
    assert wilson_share(0.0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    low, high = wilson_share(0.5, 10.5)
    assert wilson_interval(5, 10)[0] < low < high < wilson_interval(5, 10)[1]
    with pytest.raises(ValueError, match="no interval"):
        wilson_share(1.2, 5)


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4 x .005, 3 x .01, 2 x .03, then no less than before
        ([0.00016, 0.0127, 0.9, 0.0421, 0.0419, 0.2, 0.0009], [0.00112, 0.0635, 0.9, 0.1676, 0.1676, 0.4, 0.0054]),
        ([0.7, 0.9], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_by_hand_and_as_statsmodels_has_it(given: list[float], adjusted: list[float]) -> None:
    assert holm(given) == pytest.approx(adjusted)


def test_paired_bootstrap_agrees_with_scipys() -> None:
    from scipy.stats import bootstrap

    differences = np.repeat([-1.0, 0.0, 1.0], [30, 210, 60])
    low, high, p = paired_bootstrap(differences)
    theirs = bootstrap((differences,), np.mean, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert p == pytest.approx(mcnemar_exact(60, 30), abs=0.002)  # 0.0021
    assert paired_bootstrap(-differences)[2] == pytest.approx(p, abs=0.002)


def test_paired_bootstrap_of_no_difference_and_of_nothing() -> None:
    assert paired_bootstrap(np.zeros(40), resamples=100) == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="no bootstrap"):
        paired_bootstrap([])
