"""Predicted tallies, on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from taskdef.records import PassRate
from taskdef.select.prediction import RATES, predict_counts


def tally(attempts: int, correct: int, errors: int = 0) -> PassRate:
    return PassRate(sample_id="s", attempts=attempts, correct=correct, verifier_errors=errors)


def test_the_rates_hold_both_ends_and_the_middle() -> None:
    assert (RATES[0], RATES[24], RATES[48]) == pytest.approx((0, 0.5, 1))
    assert (np.diff(RATES) > 0).all()


def test_once_every_attempt_is_made_the_tally_is_certain() -> None:
    counts = predict_counts([tally(4, 3), tally(4, 0)], 4)
    assert counts == pytest.approx(np.array([[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]]))


def test_what_was_solved_stays_solved_and_what_is_left_bounds_the_rest() -> None:
    [counts] = predict_counts([tally(4, 2)], 6)
    assert counts.sum() == pytest.approx(1)
    assert (counts > 0).tolist() == [False, False, True, True, True, False, False]


def test_a_sample_never_solved_is_judged_by_the_pool_it_is_in() -> None:
    # 4 of 8 attempts made, and each pool holds 90 samples that were attempted 8 times
    hopeless = [tally(8, 0)] * 90  # nobody was ever solved
    late = [tally(8, 2)] * 90  # everybody is solved once in a while
    among_hopeless = predict_counts([tally(4, 0), *hopeless], 8)[0]
    among_late = predict_counts([tally(4, 0), *late], 8)[0]
    assert among_hopeless[0] > 0.97
    # if all rates are 1/4, another four attempts fail with chance (3/4)^4 = 0.32
    assert among_late[0] == pytest.approx(0.32, abs=0.05)


def test_before_any_attempt_all_tallies_are_as_likely_as_their_mirror_image() -> None:
    [counts] = predict_counts([tally(0, 0)], 5)
    assert counts == pytest.approx(counts[::-1])


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (tally(6, 3, errors=2), 4),  # 3 of 6 judged is a half: 4 of 8
        (tally(7, 1, errors=1), 1),  # 1 of 7 is 1.14 of 8; solved once stays above never
        (tally(7, 6, errors=1), 7),  # 6 of 7 is 6.86 of 8; failed once stays below always
        (tally(2, 2, errors=6), 8),
        (tally(1, 0, errors=7), 0),
    ],
)
def test_verifier_errors_leave_the_rate_not_the_count(given: PassRate, place: int) -> None:
    [counts] = predict_counts([given], 8)
    assert counts.argmax() == place
    assert counts[place] == pytest.approx(1)


def test_all_attempts_missing_is_no_tally_at_all() -> None:
    missing, other = predict_counts([tally(0, 0, errors=8), tally(8, 2)], 8)
    assert missing.sum() == 0
    assert other[2] == pytest.approx(1)
