"""Attempts where the choice is open, none where it is settled; all attempts made, the choice is the fixed one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from taskdef.config import SelectConfig
from taskdef.records import PassRate, Sample
from taskdef.select.adaptive import chances, choose_adaptively, choose_likely, open_places
from taskdef.select.strategies import Strategy, choose, tie_break


def samples_of(count: int) -> list[Sample]:
    return [Sample(id=f"s{number}", input="", solution="#### 1", answer="1") for number in range(count)]


def in_tie_order(samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    return sorted(samples, key=lambda sample: tie_break(seed, sample.id))


class Recorded:
    """Attempts that are drawn already: 1 solved, 0 not; None for a verifier error."""

    def __init__(self, samples: Sequence[Sample], outcomes: Sequence[Sequence[int | None]]) -> None:
        self.samples, self.outcomes = samples, outcomes
        self.made = [0] * len(samples)
        self.rounds: list[tuple[list[int], int]] = []

    def tallies(self) -> list[PassRate]:
        rates = []
        for sample, outcomes, made in zip(self.samples, self.outcomes, self.made, strict=True):
            judged = [outcome for outcome in outcomes[:made] if outcome is not None]
            rates.append(
                PassRate(
                    sample_id=sample.id,
                    attempts=len(judged),
                    correct=sum(judged),
                    verifier_errors=made - len(judged),
                )
            )
        return rates

    def __call__(self, places: Sequence[int], count: int) -> list[PassRate]:
        self.rounds.append((list(places), count))
        for place in places:
            self.made[place] += count
        return self.tallies()

    def fixed(self, config: SelectConfig) -> list[Sample]:
        """What all attempts on every sample choose."""
        self.made = [config.attempts] * len(self.samples)
        return choose(self.samples, self.tallies(), strategy=config.strategy, size=config.size, seed=0)


def drawn(rates: Sequence[float], attempts: int = 64, seed: int = 0) -> list[list[int]]:
    uniform = np.random.default_rng(seed).random((len(rates), attempts))
    return (uniform < np.array(rates)[:, None]).astype(int).tolist()


POOL = [0.0] * 40 + [0.05] * 20 + [0.3] * 20 + [0.6] * 20 + [0.95] * 20


@pytest.mark.parametrize("strategy", ["high-potential", "easy", "hard"])
@pytest.mark.parametrize("size", [15, 60, 95])
def test_nearly_the_fixed_choice_from_fewer_attempts(strategy: Strategy, size: int) -> None:
    samples = samples_of(len(POOL))
    config = SelectConfig(strategy=strategy, size=size)
    recorded = Recorded(samples, drawn(POOL))
    choice = choose_adaptively(samples, config, seed=0, attempt=recorded)
    spent = sum(recorded.made) / (64 * len(samples))
    assert spent < 0.8
    assert choice.agreement >= config.agreement
    found = {sample.id for sample in choice.selected} & {sample.id for sample in recorded.fixed(config)}
    assert len(found) >= 0.9 * size
    assert [rate.attempts for rate in choice.rates] != [64] * len(samples)


@pytest.mark.parametrize("strategy", ["high-potential", "easy", "hard"])
def test_chances_from_all_attempts_are_the_fixed_choice(strategy: Strategy) -> None:
    samples = samples_of(len(POOL))
    recorded = Recorded(samples, drawn(POOL))
    config = SelectConfig(strategy=strategy, size=50)
    fixed = recorded.fixed(config)
    chance = chances(samples, recorded.tallies(), config, seed=0)
    assert {samples[place].id for place in np.flatnonzero(chance > 0.5)} == {sample.id for sample in fixed}
    assert np.minimum(chance, 1 - chance).max() < 1e-6
    assert choose_likely(samples, recorded.tallies(), chance, config, seed=0) == fixed


def test_the_same_attempts_give_the_same_rounds() -> None:
    samples = samples_of(len(POOL))
    first, second = Recorded(samples, drawn(POOL)), Recorded(samples, drawn(POOL))
    config = SelectConfig(size=60)
    assert choose_adaptively(samples, config, seed=0, attempt=first) == choose_adaptively(
        samples, config, seed=0, attempt=second
    )
    assert first.rounds == second.rounds
    assert len(first.rounds) > 1


def test_never_solved_samples_early_in_the_tie_break_need_no_further_attempts() -> None:
    # 10 samples are solved half the time; 20 of the 50 that never are must fill the choice up
    samples = in_tie_order(samples_of(60))
    easy = set(range(0, 60, 6))
    recorded = Recorded(samples, drawn([0.5 if place in easy else 0.0 for place in range(60)]))
    choose_adaptively(samples, SelectConfig(size=30, agreement=0.999), seed=0, attempt=recorded)
    attempts = [made for place, made in enumerate(recorded.made) if place not in easy]
    assert max(attempts[:15]) == 16  # in either way: as a middling sample, or as one of the first never solved
    assert min(attempts[20:]) == 48  # in only if they are solved after all


def test_a_zero_of_few_attempts_is_not_taken_for_a_zero_of_all() -> None:
    # the three rarely solved samples are the most wanted; they are solved first in their 20th, 30th and 40th attempt
    rare = [[int(number == first) for number in range(64)] for first in (19, 29, 39)]
    samples = samples_of(33)
    recorded = Recorded(samples, [*rare, *drawn([0.7] * 30)])
    choice = choose_adaptively(samples, SelectConfig(size=3), seed=0, attempt=recorded)
    assert {sample.id for sample in choice.selected} == {"s0", "s1", "s2"}
    assert sum(recorded.made[3:]) < 30 * 64 / 2


@pytest.mark.parametrize("changes", [{"strategy": "random", "size": 5}, {"strategy": "all", "size": 5}, {"size": 40}])
def test_nothing_to_settle_takes_one_round(changes: dict[str, object]) -> None:
    samples = samples_of(20)
    recorded = Recorded(samples, drawn([0.1] * 20))
    config = SelectConfig.model_validate(changes)
    choice = choose_adaptively(samples, config, seed=0, attempt=recorded)
    assert recorded.rounds == [(list(range(20)), 8)]
    assert choice.agreement == pytest.approx(1)
    expected = 5 if config.strategy == "random" else 20
    assert len(choice.selected) == expected


@pytest.mark.parametrize(
    ("attempts", "counts"),
    [(64, [8] * 8), (20, [4] * 5), (18, [4, 4, 4, 4, 2]), (3, [3]), (100, [13] * 7 + [9])],
)
def test_rounds_add_up_to_all_attempts(attempts: int, counts: list[int]) -> None:
    samples = samples_of(12)
    recorded = Recorded(samples, drawn([0.5] * 12, attempts))
    config = SelectConfig(size=6, attempts=attempts, agreement=1)
    choose_adaptively(samples, config, seed=0, attempt=recorded)
    assert [count for _, count in recorded.rounds] == counts
    assert max(recorded.made) == attempts


def test_verifier_errors_are_spent_but_not_counted() -> None:
    outcomes: list[list[int | None]] = [[1, 0] * 32, [None] * 64, [1] * 64, [0, None] * 32]
    samples = samples_of(4)
    recorded = Recorded(samples, outcomes)
    choice = choose_adaptively(samples, SelectConfig(size=4, agreement=1), seed=0, attempt=recorded)
    # the second sample has no rate, so it is not chosen although there is room for all
    assert {sample.id for sample in choice.selected} == {"s0", "s2", "s3"}


def test_open_are_those_in_doubt_beyond_what_may_be_missed() -> None:
    rates = [PassRate(sample_id=f"s{number}", attempts=8, correct=1) for number in range(6)]
    chance = np.array([1.0, 0.9, 0.5, 0.4, 0.2, 0.0])  # doubts 0, .1, .5, .4, .2, 0: half of their sum is 0.6
    config = SelectConfig(size=3)
    # 0.02 x 3 = 0.06 may be missed: the doubts 0, 0 and 0.1 come to 0.05, with 0.2 to 0.15
    assert open_places(chance, rates, config) == [2, 3, 4]
    assert open_places(chance, rates, config.model_copy(update={"agreement": 0.8})) == []  # 0.6 may be missed
    # a doubt that no attempt of its own can settle uses up what may be missed
    rates[2] = rates[2].model_copy(update={"attempts": 64})
    assert open_places(chance, rates, config) == [0, 1, 3, 4, 5]
    assert open_places(chance, rates, config.model_copy(update={"agreement": 0.85})) == [3]
