import pytest

from taskdef.evaluate.statistics import mcnemar_exact, wilson_interval


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
