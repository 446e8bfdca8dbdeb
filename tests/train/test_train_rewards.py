"""Rewards are verdicts; a verifier's failure is no reward at all."""

from __future__ import annotations

import pytest

from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Verdict
from taskdef.train.rewards import VerdictReward
from taskdef.verify.isolated import Verifier


def test_completions_are_judged_against_their_own_prompts_label(sums_verifier: Verifier) -> None:
    reward = VerdictReward({"a": "5", "b": "7"}, format_reward=0.1, verifier=sums_verifier, stop_ids=frozenset({1}))
    values = reward(
        ["a", "b", "b", "a", "a", "b"],
        ["#### 5", "#### 5", "no number", "#### 5", "#### 5", ""],
        [[9, 1], [9, 1], [9, 1], [9, 9], [], []],
    )
    # right, wrong, nothing read, cut at the answer (twice: by the limit, and without any token), empty
    assert values == [1.0, 0.1, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("verdict", "value"),
    [
        (Verdict.CORRECT, 1.0),
        (Verdict.WRONG, 0.25),
        (Verdict.NO_ANSWER, 0.0),
        (Verdict.TRUNCATED, 0.0),
        (Verdict.VERIFIER_ERROR, None),
    ],
)
def test_the_value_of_each_verdict(verdict: Verdict, value: float | None, sums_verifier: Verifier) -> None:
    reward = VerdictReward({}, format_reward=0.25, verifier=sums_verifier, stop_ids=frozenset())
    assert reward.value(verdict) == value


def test_a_reading_that_does_not_end_gives_no_reward() -> None:
    spec = AnswerSpec(read=AnswerReading.REGEX, pattern="(a+)+$", compare=AnswerComparison.TEXT)
    with Verifier(spec, timeout_seconds=0.2) as verifier:
        reward = VerdictReward({"q": "a"}, format_reward=0.1, verifier=verifier, stop_ids=frozenset({1}))
        assert reward(["q", "q"], ["a" * 40 + "b", "a"], [[5, 1], [5, 1]]) == [None, 1.0]
