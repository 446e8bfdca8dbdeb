"""Means over seeds: by hand, against scipy where the model reduces to a known one, and on simulated worlds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from taskdef.evaluate.seeds import accuracy_over_seeds, deviation_over_seeds, difference_over_seeds
from taskdef.evaluate.statistics import mcnemar_exact, paired_bootstrap, wilson_interval, wilson_share

WORLDS = 400


def world(
    generator: np.random.Generator, seeds: int, rows: int, effect: float, seed_spread: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Answers of two variants: rows differ in difficulty, each training comes out a little better or worse."""
    difficulty = generator.normal(0, 1.5, rows)
    answers = []
    for gain in (effect, 0.0):
        logits = difficulty + gain + generator.normal(0, seed_spread, (seeds, 1))
        answers.append((generator.random((seeds, rows)) < 1 / (1 + np.exp(-logits))).astype(float))
    return answers[0], answers[1]


def alarms(seeds: int, rows: int, effect: float, seed_spread: float, worlds: int = WORLDS) -> tuple[float, float]:
    """Wilson's interval for how often p is below 5%."""
    generator = np.random.default_rng(7)
    found = sum(
        (difference_over_seeds(*world(generator, seeds, rows, effect, seed_spread)).p or 0.0) < 0.05
        for _ in range(worlds)
    )
    return wilson_interval(found, worlds)


@pytest.mark.parametrize(("seeds", "rows", "seed_spread"), [(3, 200, 0.0), (5, 400, 0.2), (8, 100, 0.4)])
def test_no_difference_is_called_one_in_one_world_of_twenty(seeds: int, rows: int, seed_spread: float) -> None:
    low, high = alarms(seeds, rows, 0.0, seed_spread)
    assert low <= 0.05 <= high


def test_mcnemar_for_one_seed_keeps_below_one_in_twenty() -> None:
    """An exact test of counts is on the safe side."""
    low, high = alarms(1, 200, 0.0, 0.0)
    assert low <= 0.05
    assert high < 0.07


def test_a_real_difference_is_found() -> None:
    low, _ = alarms(3, 400, 1.0, 0.1, worlds=100)
    assert low > 0.8


def test_rows_alone_take_a_lucky_training_for_a_better_variant() -> None:
    """Why the two-way model: the bootstrap over rows is right for these very models, and not for the variants."""
    generator = np.random.default_rng(3)
    found = 0
    for _ in range(100):
        a, b = world(generator, 3, 400, 0.0, 0.2)
        found += paired_bootstrap((a - b).mean(axis=0), resamples=500)[2] < 0.05
    low, _ = wilson_interval(found, 100)
    assert low > 0.1


def test_the_bootstrap_keeps_its_five_percent_where_rows_are_the_only_chance() -> None:
    generator = np.random.default_rng(11)
    worlds = (world(generator, 3, 200, 0.0, 0.0) for _ in range(WORLDS))
    found = sum(paired_bootstrap((a - b).mean(axis=0), resamples=300)[2] < 0.05 for a, b in worlds)
    low, high = wilson_interval(found, WORLDS)
    assert low <= 0.05 <= high


def test_the_variance_by_hand() -> None:
    # differences [[1, 0], [1, 1], [0, 0]]: mean 1/2, seeds .5 1 0, rows 2/3 1/3
    # MS_seeds 2 (0 + 1/4 + 1/4) / 2 = 1/2;  MS_rows 3 (1/36 + 1/36) = 1/6
    # rest: 1/3 -1/3 | -1/6 1/6 | -1/6 1/6, squares 2/9 + 4/36 = 1/3, over (2)(1): MS_rest 1/6
    # so rows add nothing, Var = (1/2) / 6 = 1/12, t = .5 / sqrt(1/12) = 1.7320508 with 2 degrees of freedom
    found = difference_over_seeds([[1, 0], [1, 1], [0, 0]], np.zeros((3, 2)))
    assert found.mean == 0.5
    assert found.p == pytest.approx(0.225403, abs=1e-6)  # 1 - t / sqrt(2 + t^2)
    assert found.low == pytest.approx(0.5 - 4.302653 / 12**0.5, abs=1e-5)


def test_where_rows_add_nothing_it_is_the_t_test_over_seeds() -> None:
    from scipy.stats import ttest_1samp

    differences = np.array([[1, 0, 0, 1], [0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 0, 1.0]])
    theirs = ttest_1samp(differences.mean(axis=1), 0)
    found = difference_over_seeds(differences, np.zeros((4, 4)))
    assert found.p == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, min(1, interval.high)))


def test_seeds_that_come_out_equal_by_chance_make_nothing_certain() -> None:
    """Three seeds, each right on one row more of 100, each on another one: no evidence of anything."""
    a, b = np.zeros((3, 100)), np.zeros((3, 100))
    for seed in range(3):
        a[seed, [5 * seed, 5 * seed + 1]] = 1
        b[seed, 50 + seed] = 1
    found = difference_over_seeds(a, b)
    # row sums: six times 1, three times -1; about the mean .01: MS_rows = 3 (9/9 - 100 (.01)^2) / 99 = .0300
    # the cells' squares about it: 9 - 300 (.01)^2 = 8.97, of which the rows have 2.97: MS_rest = 6 / 198 = .0303
    error = (6 / 198 / 300) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.01 - 1.959964 * error, 0.01 + 1.959964 * error), abs=1e-6)
    assert found.p == pytest.approx(0.3197, abs=1e-4)


def test_where_few_rows_differ_small_p_values_stay_rare() -> None:
    generator = np.random.default_rng(5)
    worlds = ((generator.random((2, 3, 100)) < 0.02).astype(float) for _ in range(WORLDS))
    assert min(difference_over_seeds(a, b).p or 0.0 for a, b in worlds) > 1e-4


def test_one_seed_is_wilson_and_mcnemar() -> None:
    a, b = [[1, 1, 1, 0, 1, 1]], [[0, 0, 1, 0, 0, 1]]
    assert accuracy_over_seeds(a).low == wilson_interval(5, 6)[0]
    assert difference_over_seeds(a, b).p == mcnemar_exact(3, 0)
    assert difference_over_seeds(a, b).mean == 0.5
    assert deviation_over_seeds(a) is None


def test_an_accuracy_of_several_seeds_is_wider_than_its_pooled_answers() -> None:
    """Three seeds that answer alike are one: 8 of 20, three times."""
    answers = np.tile(np.repeat([1.0, 0.0], [8, 12]), (3, 1))
    found = accuracy_over_seeds(answers)
    pooled, alone = wilson_interval(24, 60), wilson_interval(8, 20)
    assert found.low < pooled[0]
    assert (found.low, found.high) == pytest.approx(alone, abs=0.01)
    assert deviation_over_seeds(answers) == pytest.approx(0, abs=1e-12)


def test_all_right_has_an_interval_too() -> None:
    assert accuracy_over_seeds(np.ones((3, 20))).low == pytest.approx(wilson_share(1.0, 20)[0])


def test_two_variants_that_differ_everywhere_alike_are_told_apart_by_the_rows() -> None:
    found = difference_over_seeds(np.ones((2, 6)), np.zeros((2, 6)))
    assert (found.mean, found.p) == (1.0, 2 / 2**6)
    assert difference_over_seeds(np.ones((2, 6)), np.ones((2, 6))).p == 1.0


def test_shapes_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        difference_over_seeds([[1, 0]], [[1, 0, 1]])
    with pytest.raises(ValueError, match="of shape"):
        accuracy_over_seeds([1, 0])
