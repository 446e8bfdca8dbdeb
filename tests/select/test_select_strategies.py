"""Pass rates and selection on examples worked out by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from taskdef.config import RunConfig, SelectConfig
from taskdef.errors import RunError
from taskdef.policy.attempts import AttemptFile, derived_seed
from taskdef.records import Attempt, Completion, PassRate, Sample, Stage, TaskDefinition, Verdict
from taskdef.select.pass_rates import pass_rates
from taskdef.select.stage import Selection, select_samples
from taskdef.select.strategies import choose, potential
from taskdef.store import RunDirectory
from taskdef.verify.isolated import Verifier

C, W, N, T, E = Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER, Verdict.TRUNCATED, Verdict.VERIFIER_ERROR


def sample(identity: str, answer: str = "1") -> Sample:
    return Sample(id=identity, input=f"question {identity}", solution=f"#### {answer}", answer=answer)


def attempts(sample_id: str, *verdicts: Verdict, tokens: int = 4) -> list[Attempt]:
    return [
        Attempt(sample_id=sample_id, text="", answer=None, verdict=verdict, token_count=tokens + number)
        for number, verdict in enumerate(verdicts)
    ]


def rates_of(**rates: float | None) -> list[PassRate]:
    return [
        PassRate(sample_id=name, attempts=0 if rate is None else 8, correct=0 if rate is None else round(8 * rate))
        for name, rate in rates.items()
    ]


def by_hash(seed: int, *names: str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())


def test_a_pass_rate_counts_verdicts_and_leaves_verifier_errors_out() -> None:
    samples = [sample("a"), sample("b"), sample("c")]
    made = [*attempts("c", E, E), *attempts("a", C, W, N, T, C), *attempts("b", C, E, W, E)]
    a, b, c = pass_rates(samples, made)
    assert a == PassRate(
        sample_id="a", attempts=5, correct=2, no_answer=1, truncated=1, verifier_errors=0, mean_tokens=6
    )
    assert a.rate == 0.4
    assert b == PassRate(sample_id="b", attempts=2, correct=1, verifier_errors=2, mean_tokens=5.5)
    assert b.rate == 0.5  # 1 of 2, not 1 of 4
    assert (c.attempts, c.verifier_errors, c.rate) == (0, 2, None)


def test_a_sample_never_attempted_has_no_rate() -> None:
    [rate] = pass_rates([sample("a")], [])
    assert (rate.attempts, rate.rate, rate.mean_tokens) == (0, None, 0.0)


def test_never_solved_scores_1() -> None:
    assert [potential(rate) for rate in (0.0, 1 / 64, 0.5, 1.0)] == [1.0, 1 / 64, 0.5, 1.0]


RATES = {"a": 0.5, "b": 0.0, "c": 0.125, "d": 1.0, "e": None, "f": 0.25}
SAMPLES = [sample(name) for name in RATES]


@pytest.mark.parametrize(
    ("strategy", "size", "expected"),
    [
        # low but positive first; never solved (1) and always solved (1) are equals at the end
        ("high-potential", 3, ["c", "f", "a"]),
        ("high-potential", 9, ["c", "f", "a", *by_hash(5, "b", "d")]),
        ("easy", 2, ["d", "a"]),
        ("easy", 9, ["d", "a", "f", "c", "b"]),
        ("hard", 3, ["b", "c", "f"]),
        # these two look at no rate, so a sample without one may be chosen
        ("random", 4, by_hash(5, *RATES)[:4]),
        ("all", 1, by_hash(5, *RATES)),
    ],
)
def test_the_strategies(strategy: str, size: int, expected: list[str]) -> None:
    chosen = choose(SAMPLES, rates_of(**RATES), strategy=strategy, size=size, seed=5)  # type: ignore[arg-type]
    assert [each.id for each in chosen] == expected


def test_equals_are_drawn_by_the_seed_whatever_their_order() -> None:
    names = list("abcdefgh")
    rates = rates_of(**dict.fromkeys(names, 0.5))
    samples = [sample(name) for name in names]
    drawn = {
        seed: [each.id for each in choose(samples, rates, strategy="high-potential", size=4, seed=seed)]
        for seed in range(6)
    }
    for seed, chosen in drawn.items():
        assert chosen == by_hash(seed, *names)[:4]
        backwards = choose(samples[::-1], rates[::-1], strategy="high-potential", size=4, seed=seed)
        assert [each.id for each in backwards] == chosen
    assert len({tuple(chosen) for chosen in drawn.values()}) > 3


class HalfPolicy:
    """Solves a sample in as many of its attempts as the sample's id says."""

    name = "half"

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        assert temperature == 0.7
        return [
            [
                Completion(
                    text="#### 1" if number < int(text.rsplit(maxsplit=1)[1]) else "#### 2",
                    token_count=4,
                    truncated=False,
                )
                for number in range(count)
            ]
            for text in inputs
        ]

    def prompt_length(self, sample_input: str) -> int:
        return 1

    def prompt_limit(self) -> int:
        return 100


def test_the_stage_scores_and_chooses(sums_verifier: Verifier) -> None:
    samples = [sample(name) for name in ("0", "4", "1", "2", "3")]
    selection = select_samples(
        samples, SelectConfig(rollouts=4, size=2), policy=HalfPolicy(), verifier=sums_verifier, seed=0
    )
    assert [rate.rate for rate in selection.rates] == [0.0, 1.0, 0.25, 0.5, 0.75]
    assert [each.id for each in selection.selected] == ["1", "2"]
    assert selection.summary() == {
        "scored": 5,
        "attempts": 20,
        "expected_agreement": 1.0,
        "kept": 2,
        "never_solved": 1,
        "always_solved": 1,
        "high_potential": 3,
        "mean_pass_rate": 0.5,
        "mean_pass_rate_selected": 0.375,
        "verifier_errors": 0,
    }


class RarePolicy(HalfPolicy):
    """Solves a sample in the share of its attempts that its id says, in per cent, as the seed draws them."""

    def __init__(self, die_after: int | None = None) -> None:
        self.calls = 0
        self.die_after = die_after

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        if self.calls == self.die_after:
            raise KeyboardInterrupt
        self.calls += 1
        return [
            [
                Completion(
                    text=f"#### {1 + (derived_seed(seed, text, number) % 100 >= int(text.rsplit('-')[-1]))}",
                    token_count=4,
                    truncated=False,
                )
                for number in range(count)
            ]
            for text in inputs
        ]


def test_an_adaptive_stage_that_was_killed_goes_on_to_the_same_end(
    sums_verifier: Verifier, sums: TaskDefinition, tmp_path: Path
) -> None:
    samples = [sample(f"{number}-{percent}") for number in range(8) for percent in (0, 5, 30, 60, 95)]
    config = SelectConfig(size=16)
    directory = RunDirectory.create(tmp_path / "run", sums, RunConfig()).stage(Stage.SELECT)
    directory.open()

    def select(policy: RarePolicy, file: AttemptFile | None) -> Selection:
        return select_samples(samples, config, policy=policy, verifier=sums_verifier, seed=0, file=file)

    undisturbed = select(whole := RarePolicy(), None)
    assert whole.calls > 3
    file = AttemptFile(directory, "attempts.jsonl")
    with pytest.raises(KeyboardInterrupt):
        select(RarePolicy(die_after=3), file)
    assert select(rest := RarePolicy(), file) == undisturbed
    assert rest.calls == whole.calls - 3
    attempts = directory.read_partial("attempts.jsonl", Attempt)
    assert len(attempts) == undisturbed.summary()["attempts"] < 64 * len(samples)
    assert tuple(pass_rates(samples, attempts)) == undisturbed.rates
    assert len({rate.attempts for rate in undisturbed.rates}) > 2


def test_nothing_to_choose_from(sums_verifier: Verifier) -> None:
    with pytest.raises(RunError) as caught:
        select_samples([], SelectConfig(), policy=HalfPolicy(), verifier=sums_verifier, seed=0)
    assert "no samples reached selection" in str(caught.value)
    assert "taskdef show" in str(caught.value)


class BrokenVerifier:
    """Stands for a user's function that fails on every text."""

    def judge(self, items: Sequence[object], lenient: bool = False) -> list[object]:
        from taskdef.verify.judge import failed

        return [failed("ZeroDivisionError: division by zero", lenient=lenient) for _ in items]


def test_no_pass_rate_at_all() -> None:
    with pytest.raises(RunError) as caught:
        select_samples(
            [sample("1")],
            SelectConfig(attempts=2),
            policy=HalfPolicy(),
            verifier=BrokenVerifier(),  # type: ignore[arg-type]
            seed=0,
        )
    assert str(caught.value) == (
        "no sample has a pass rate: every attempt ended in a verifier error"
        "\n  next: taskdef check shows whether the answer section reads the demos and test rows"
    )
