"""What the base model writes at the run's limit: lengths, speed, and when a larger limit is advised."""

import pytest

from taskdef.config import build_config
from taskdef.preview.lengths import Lengths, MeasuredPolicy, project_sampling
from taskdef.records import Completion


class Policy:
    """Completions of lengths as given, in turn."""

    name = "policy"

    def __init__(self, *lengths: int, limit: int) -> None:
        self.lengths = list(lengths)
        self.limit = limit

    def complete(self, inputs: list[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        taken = [self.lengths.pop(0) for _ in range(len(inputs) * count)]
        made = [Completion(text="x", token_count=n, truncated=n == self.limit) for n in taken]
        return [made[start : start + count] for start in range(0, len(made), count)]

    def prompt_length(self, sample_input: str) -> int:
        return len(sample_input)

    def prompt_limit(self) -> int:
        return 100


def measured(*lengths: int, limit: int = 10, rows: int | None = None) -> Lengths:
    policy = MeasuredPolicy(Policy(*lengths, limit=limit), limit)  # type: ignore[arg-type]
    policy.complete(["abc"] * (rows or len(lengths)), count=1, temperature=0.0, seed=0)
    return policy.lengths


def test_lengths_are_counted_and_those_the_limit_ended() -> None:
    lengths = measured(1, 2, 3, 10)
    assert (lengths.tokens, lengths.cut, lengths.longest_prompt) == ([1, 2, 3, 10], 1, 3)
    assert lengths.text() == (
        "completions 4: median 2 tokens, 95% within 10, longest 10; 1 reached the limit of 10 (25%)"
    )
    assert lengths.batches[0][:2] == (4, 16)


@pytest.mark.parametrize(
    ("lengths", "context", "advice"),
    [
        ((10, 10, 10, 10), None, "--set policy.max_new_tokens=20, and preview again"),
        ((10, 10, 1, 1), 100, "--set policy.max_new_tokens=20, and preview again"),
        ((10, 10, 1, 1), 18, "--set policy.max_new_tokens=15, and preview again"),  # 3 are the prompt
        ((10, 10, 1, 1), 13, "a base model with more context than 13 tokens"),
    ],
)
def test_a_limit_that_cuts_is_warned_of_with_the_setting_to_change(
    lengths: tuple[int, ...], context: int | None, advice: str
) -> None:
    warning = measured(*lengths).warning(context)
    cut = lengths.count(10)
    assert warning.startswith(f"the response limit cuts {cut} of 4 completions ({cut / 4:.0%}); ")
    assert f"\nnext: {advice}" in warning


@pytest.mark.parametrize("lengths", [(1, 2, 3), (10, 1, 1), (10, 10) + (1,) * 38])
def test_a_rambler_is_no_reason_for_a_warning(lengths: tuple[int, ...]) -> None:
    assert measured(*lengths).warning(None) == ""


def test_decoding_lies_between_a_batch_of_the_runs_size_and_small_ones() -> None:
    """100 tokens a second from 10 rows of 10 tokens; a batch of the run holds 40 rows of 3 + 12 tokens."""
    lengths = Lengths(limit=12, tokens=[10] * 10, longest_prompt=3, batches=[(10, 100, 1.0)])
    config = build_config(
        overrides={
            "policy.batch_tokens": 600,
            "warm_up.mode": "never",
            "select.rollouts": 4,
            "select.size": 5,
            "train.max_steps": 2,
            "train.batch": 5,
            "train.completions": 8,
        }
    )
    found = project_sampling(lengths, config, samples=(10, 20), pool=(15, 30), test_rows=50)
    assert found is not None
    # greedy 10 or 20, scoring 60 or 120, rollouts 80, held-out rows 2 x 50
    assert (found.fewest, found.most) == (250, 320)
    assert (found.least_seconds, found.most_seconds) == (pytest.approx(250 / 40), pytest.approx(32.0))


def test_a_warm_up_may_add_a_greedy_round_and_a_model_to_evaluate() -> None:
    lengths = Lengths(limit=12, tokens=[10] * 10, longest_prompt=3, batches=[(10, 100, 1.0)])
    config = build_config(overrides={"select.attempts": 64, "train.max_steps": 1, "train.batch": 1})
    found = project_sampling(lengths, config, samples=(10, 10), pool=(10, 10), test_rows=5)
    assert found is not None
    # greedy 10 or 20, scoring 40 or 640, rollouts 16, held-out rows 2 or 3 x 5
    assert (found.fewest, found.most) == (76, 691)


def test_nothing_is_projected_from_nothing() -> None:
    config = build_config()
    assert project_sampling(Lengths(limit=12), config, samples=(1, 2), pool=(1, 2), test_rows=0) is None
    assert Lengths(limit=12).text() == "no completion was sampled"
