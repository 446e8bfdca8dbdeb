"""Q against chances that are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Any

import pytest
from scipy.stats import binom

from taskdef.policy.attempts import Problem
from taskdef.progress import SilentProgress
from taskdef.records import Verdict
from taskdef.train.q_values import WrongResponse, advantages, best_of_k, start_value, step_values
from taskdef.train.rollouts import Prefix, PrefixRollouts, Rollout, RolloutRounds
from taskdef.verify.isolated import Verifier

K = 5
PROBLEM = Problem(id="p", input="x", gold="a")
# after a first "b" the last letter is "a" in one of 20, after "a, a" in half
TABLE = {(): (0.3, 0.7), (1, 1): (0.5, 0.5), (1, 2): (0.2, 0.8), (2, 1): (0.05, 0.95), (2, 2): (0.05, 0.95)}
MakePolicy = Callable[..., Any]


def rounds(policy: Any, verifier: Verifier, count: int) -> RolloutRounds:
    return RolloutRounds(
        policy, count=count, temperature=1.0, seed=5, label="q", verifier=verifier, progress=SilentProgress()
    )


def wrong(*letters: int, start: float = 0.9) -> WrongResponse:
    """A response of one-letter steps; the stop token belongs to the last."""
    ends = (*range(1, len(letters)), len(letters) + 1)
    return WrongResponse(PROBLEM, (*letters, 0), ends, start)


@pytest.mark.parametrize(
    ("rollouts", "correct", "expected"),
    [
        (5, 0, 0.0),
        (5, 1, 1.0),  # the best of all five
        (6, 1, 5 / 6),  # one of six sets of five leaves the correct one out
        (10, 2, 1 - 56 / 252),
        (10, 6, 1.0),  # any five hold a correct one
    ],
)
def test_best_of_k(rollouts: int, correct: int, expected: float) -> None:
    assert best_of_k(rollouts, correct, K) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("rollouts", [5, 8, 20])
@pytest.mark.parametrize("q", [0.02, 0.2, 0.7])
def test_the_estimate_is_unbiased_and_the_plug_in_is_not(rollouts: int, q: float) -> None:
    chance = [comb(rollouts, c) * q**c * (1 - q) ** (rollouts - c) for c in range(rollouts + 1)]
    mean = sum(p * best_of_k(rollouts, c, K) for c, p in enumerate(chance))
    plug_in = sum(p * (1 - (1 - c / rollouts) ** K) for c, p in enumerate(chance))
    assert mean == pytest.approx(1 - (1 - q) ** K, abs=1e-12)
    assert plug_in < mean - 1e-4


@pytest.mark.parametrize(("rollouts", "correct", "k"), [(4, 1, 5), (5, 6, 5), (5, -1, 5), (5, 1, 0)])
def test_counts_that_say_nothing_are_refused(rollouts: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"{correct} correct of {rollouts} rollouts say nothing about the best of {k}"):
        best_of_k(rollouts, correct, k)


def test_advantages_are_differences() -> None:
    assert advantages([0.5, 0.75, 0.25]) == (0.25, -0.5)
    assert advantages([0.5]) == ()


def test_q_lies_inside_the_binomial_interval_of_the_exact_q(tabular: MakePolicy, letters_verifier: Verifier) -> None:
    policy, count = tabular(TABLE), 400
    work = rounds(policy, letters_verifier, count)
    responses = [wrong(1, 1, 2), wrong(1, 2, 2), wrong(2, 1, 2), wrong(2, 2, 2)]
    for response, found in zip(responses, step_values(responses, work, K), strict=True):
        assert found is not None
        assert found.rolled_out == 2
        for step, estimate in enumerate(found.values[1:-1], start=1):
            q = policy.chance_correct(response.ids[:step])
            # 3 values in 10,000 lie outside; Q grows with the number of correct rollouts
            low, high = binom.interval(0.9997, count, q)
            assert best_of_k(count, int(low), K) <= estimate <= best_of_k(count, int(high), K)
            assert best_of_k(count, int(low), K) <= 1 - (1 - q) ** K <= best_of_k(count, int(high), K)
        assert found.values[-1] == 0
    # four prefixes of two letters and two of one: the shared ones once, the whole responses never
    assert sorted(prefix for asked in policy.asked for prefix in asked) == [(1,), (1, 1), (1, 2), (2,), (2, 1), (2, 2)]


def test_advantages_sum_to_the_last_q_less_the_start(tabular: MakePolicy, letters_verifier: Verifier) -> None:
    work = rounds(tabular(TABLE), letters_verifier, 40)
    for start, found in zip((0.9, 0.4), step_values([wrong(1, 1, 2), wrong(2, 1, 2, start=0.4)], work, K), strict=True):
        assert found is not None
        assert len(found.advantages) == 3
        assert sum(found.advantages) == pytest.approx(0 - start, abs=1e-12)


def test_what_follows_a_prefix_that_always_fails_is_not_rolled_out(
    tabular: MakePolicy, letters_verifier: Verifier
) -> None:
    policy = tabular({(1, 2): (0.0, 1.0), (1, 2, 2): (0.0, 1.0)}, depth=4, limit=5)
    (found,) = step_values([wrong(1, 2, 2, 2)], rounds(policy, letters_verifier, 50), K)
    assert found is not None
    assert found.values[2:] == (0.0, 0.0, 0.0)
    assert found.rolled_out == 2
    assert policy.asked == [[(1,)], [(1, 2)]]
    # a problem that was never solved needs none at all; nor does a response of one step
    assert step_values([wrong(1, 2, 2, start=0.0), wrong(2)], rounds(policy, letters_verifier, 50), K)[1] is not None
    assert len(policy.asked) == 2
    assert step_values([], rounds(policy, letters_verifier, 50), K) == []


def test_verifier_errors_are_missing_data(tabular: MakePolicy, letters_verifier: Verifier) -> None:
    class Failing:
        """Fails on two of six texts that begin with "b"."""

        def judge(self, items: list[tuple[str, str, bool]]) -> list[Any]:
            judged = letters_verifier.judge(items)
            failed = [place for place, item in enumerate(items) if item[0].startswith("b")][:2]
            return [
                type(each)(None, Verdict.VERIFIER_ERROR) if place in failed else each
                for place, each in enumerate(judged)
            ]

    work = rounds(tabular({}), Failing(), 6)  # type: ignore[arg-type]
    kept, dropped = step_values([wrong(1, 2), wrong(2, 2)], work, K)
    assert kept is not None
    assert dropped is None
    assert work.finish().verifier_errors == 2


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        # one wrong rollout left out: 1 correct of the 6 others
        ([Verdict.CORRECT] + [Verdict.WRONG] * 6, 5 / 6),
        ([Verdict.WRONG] * 6, 0.0),
        ([Verdict.WRONG] * 5, None),
        ([Verdict.CORRECT] + [Verdict.WRONG] * 4 + [Verdict.VERIFIER_ERROR] * 2, None),
        ([Verdict.CORRECT] * 6, None),  # none is wrong
        ([Verdict.CORRECT] * 5 + [Verdict.TRUNCATED], 1.0),
    ],
)
def test_the_start_value_leaves_the_wrong_response_out(verdicts: list[Verdict], expected: float | None) -> None:
    made = PrefixRollouts(
        problem_id="p", prefix=(), rollouts=tuple(Rollout(ids=(0,), verdict=verdict) for verdict in verdicts)
    )
    assert start_value(made, K) == (None if expected is None else pytest.approx(expected))


def test_the_start_value_is_unbiased_given_that_one_response_is_wrong(tabular: MakePolicy) -> None:
    q, others = 0.3, 7
    chance = [comb(others, c) * q**c * (1 - q) ** (others - c) for c in range(others + 1)]
    made = [
        PrefixRollouts(
            problem_id="p",
            prefix=Prefix(PROBLEM).ids,
            rollouts=tuple(
                Rollout(ids=(), verdict=Verdict.CORRECT if number < c else Verdict.WRONG)
                for number in range(others + 1)
            ),
        )
        for c in range(others + 1)
    ]
    mean = sum(p * (start_value(each, K) or 0) for p, each in zip(chance, made, strict=True))
    assert mean == pytest.approx(1 - 0.7**5, abs=1e-12)
