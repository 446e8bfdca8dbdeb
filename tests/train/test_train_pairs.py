"""Pairs of whole responses: different wrong ones beside correct ones, nothing that was cut, everything counted."""

from __future__ import annotations

from collections import Counter

from taskdef.config import DpoConfig
from taskdef.records import Attempt, Sample, Verdict
from taskdef.train.pairs import pair_attempts

SAMPLE = Sample(id="s", input="3 + 4?", solution="3 + 4 = 7 #### 7", answer="7")


def attempts(**texts: list[str]) -> list[Attempt]:
    return [
        Attempt(sample_id="s", text=text, answer=None, verdict=Verdict(verdict), token_count=len(text))
        for verdict, group in texts.items()
        for text in group
    ]


MIXED = attempts(
    correct=["c1", "c2", "c1", "longest."],
    wrong=["w1", "w2", "w1"],
    no_answer=["n1"],
    truncated=["cut off."],
    verifier_error=["v1"],
)


def test_every_wrong_text_is_rejected_once_and_the_correct_ones_are_chosen_in_turn() -> None:
    pairs, left_out = pair_attempts(SAMPLE, MIXED, DpoConfig(), max_new_tokens=8, seed=0)
    assert sorted(pair.rejected for pair in pairs) == ["n1", "w1", "w2"]
    assert [pair.chosen for pair in pairs] == ["c1", "c2", "c1"]
    assert all(pair.own_chosen for pair in pairs)
    assert left_out == Counter(attempts_cut=2, attempts_unjudged=1)


def test_the_cap_takes_other_wrong_ones_under_another_seed() -> None:
    seen = {
        pair_attempts(SAMPLE, MIXED, DpoConfig(pairs=1), max_new_tokens=8, seed=seed)[0][0].rejected
        for seed in range(20)
    }
    assert seen == {"w1", "w2", "n1"}
    once, again = (pair_attempts(SAMPLE, MIXED, DpoConfig(pairs=2), max_new_tokens=8, seed=3)[0] for _ in range(2))
    assert once == again
    assert len(once) == 2


def test_without_a_correct_attempt_the_verified_solution_is_chosen_where_that_is_wanted() -> None:
    unsolved = attempts(wrong=["w1"], truncated=["cut off."])
    pairs, left_out = pair_attempts(SAMPLE, unsolved, DpoConfig(), max_new_tokens=8, seed=0)
    assert [(pair.chosen, pair.rejected, pair.own_chosen) for pair in pairs] == [(SAMPLE.solution, "w1", False)]
    assert +left_out == Counter(attempts_cut=1)
    pairs, left_out = pair_attempts(SAMPLE, unsolved, DpoConfig(verified_chosen=False), max_new_tokens=8, seed=0)
    assert pairs == []
    assert left_out["samples_never_solved"] == 1


def test_a_sample_that_was_never_wrong_gives_no_pair() -> None:
    pairs, left_out = pair_attempts(SAMPLE, attempts(correct=["c1"]), DpoConfig(), max_new_tokens=8, seed=0)
    assert pairs == []
    assert left_out["samples_never_wrong"] == 1
