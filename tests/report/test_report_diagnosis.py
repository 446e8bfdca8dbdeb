from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

from taskdef.config import build_config
from taskdef.records import PassRate, Stage
from taskdef.report.diagnosis import diagnose
from taskdef.report.gather import Artifacts, gather
from taskdef.store import RunDirectory


@pytest.fixture
def artifacts(make_run: Callable[..., RunDirectory]) -> Artifacts:
    return gather(make_run())


def log(**figures: Any) -> list[dict[str, Any]]:
    """Forty steps; a pair is (value of the first twenty, value of the last twenty)."""
    halves = {key: value if isinstance(value, tuple) else (value, value) for key, value in figures.items()}
    return [{"step": step + 1} | {key: pair[step >= 20] for key, pair in halves.items()} for step in range(40)]


def sentences(artifacts: Artifacts, **changes: Any) -> str:
    return "\n".join(
        f"{one.kind}: {one.sentence} {one.remedy}" for one in diagnose(dataclasses.replace(artifacts, **changes))
    )


def test_a_good_run_has_nothing_to_say(artifacts: Artifacts) -> None:
    assert diagnose(artifacts) == []


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"zero_signal_share": 0.95, "reward": 0.02}, r"In 95\.0% of the groups .* nearly always wrong\)"),
        ({"zero_signal_share": 0.95, "reward": 0.98}, r"nearly always right\)"),
        ({"truncated_share": (0.0, 0.3)}, r"30\.0% of the completions were cut .* policy\.max_new_tokens \(it is 32\)"),
        (
            {"reward_std": (0.4, 0.0), "reward": 0.0, "explained_variance": (0.1, 0.2)},
            None,  # half of PPO's steps
        ),
        ({"reward_std": 0.0, "reward": 1.0}, r"In 100% of the steps all completions .* nearly always right\)"),
        (
            {"explained_variance": (0.1, -0.4)},
            r"PPO's values explained .0\.4 of .* train\.ppo\.value_learning_rate",
        ),
        ({"chosen_reward": (-0.02, -0.25)}, r"lost 2\.5 nats .* train\.dpo\.beta \(it is 0\.1\).*--method stepwise"),
        ({"entropy": (1.2, 0.05), "reward": 0.5}, r"Entropy fell from 1\.2 to 0\.05: .* train\.temperature"),
        ({"kl": (0.1, 4.0)}, r"moved 4 nats a token away .* train\.learning_rate"),
    ],
)
def test_a_training_gone_wrong_is_told_with_a_remedy(
    artifacts: Artifacts, figures: dict[str, Any], expected: str | None
) -> None:
    told = sentences(artifacts, log=log(**figures))
    if expected is None:
        assert told == ""
    else:
        assert re.search(rf"^problem: .*{expected}", told)
        assert told.count("\n") == 0  # this one and no other


@pytest.mark.parametrize(
    "figures",
    [
        # as logged by runs that went well: GRPO and PPO on sums, DPO, SFT
        {
            "reward": (0.09, 0.43),
            "entropy": (1.71, 0.21),
            "kl": (0.11, 0.48),
            "truncated_share": (0.07, 0.005),
            "zero_signal_share": (0.69, 0.66),
            "reward_std": (0.2, 0.4),
        },
        {
            "reward": (0.24, 0.59),
            "reward_std": (0.3, 0.3),
            "entropy": (1.5, 0.6),
            "kl": (0.02, 0.7),
            "explained_variance": (-0.01, 0.26),
            "clipped_share": (0.15, 0.15),
            "value_loss": (0.1, 0.05),
        },
        {"chosen_reward": (0.0, 0.03), "margin": (0.0, 0.9), "entropy": (1.1, 0.9), "loss": (0.69, 0.4)},
        {"chosen_reward": (0.0, -0.05), "margin": (0.0, 0.9), "loss": (0.69, 0.4)},  # a little is usual
        {"entropy": (3.0, 0.2), "loss": (2.0, 0.3)},  # SFT: sure of itself is what it shall become
        {"explained_variance": (0.0, -0.02), "reward": (0.2, 0.3), "reward_std": (0.4, 0.4)},
    ],
    ids=["grpo", "ppo", "dpo", "dpo that loses a little", "sft", "values around nothing"],
)
def test_a_healthy_log_raises_no_alarm(artifacts: Artifacts, figures: dict[str, Any]) -> None:
    assert sentences(artifacts, log=log(**figures)) == ""


def test_a_short_log_is_compared_by_thirds(artifacts: Artifacts) -> None:
    steps = [{"step": step, "reward": 0.5, "entropy": value} for step, value in enumerate((2.0, 1.0, 0.1))]
    assert "Entropy fell from 2 to 0.1" in sentences(artifacts, log=steps)


def test_stepwise_is_not_told_to_learn_stepwise(artifacts: Artifacts) -> None:
    artifacts.run.config = build_config(base=artifacts.run.config, overrides={"train.method": "stepwise"})
    told = sentences(artifacts, log=log(chosen_reward=(0.0, -0.5)))
    assert "lost 5 nats" in told
    assert "--method stepwise" not in told


def test_memory_that_ended_comes_first(artifacts: Artifacts) -> None:
    told = sentences(artifacts, fault={"sentence": "train: out of memory.", "remedy": "--set x=1"}, log=log(kl=(0, 9)))
    assert told.startswith("problem: train: out of memory. --set x=1\nproblem: The tuned model moved")


def test_truncation_that_was_overcome_is_no_problem(artifacts: Artifacts) -> None:
    assert sentences(artifacts, log=log(truncated_share=(0.9, 0.05), kl=0.2, entropy=(1.0, 0.4))) == ""


def test_one_token_that_became_unlikely_is_no_drift(artifacts: Artifacts) -> None:
    steps = log(kl=(0.1, 0.5), entropy=(1.0, 0.4))
    steps[-3] = steps[-3] | {"kl": 456.0}
    assert sentences(artifacts, log=steps) == ""


def test_nothing_readable_is_told_with_the_warm_ups_part(artifacts: Artifacts) -> None:
    rates = {"s": PassRate(sample_id="s", attempts=100, correct=0, no_answer=97)}
    told = sentences(artifacts, pass_rates=rates, warm_up={"done": False})
    assert "Of the 100 scored attempts only 3.0% held an answer that could be read, and there was no warm-up" in told
    assert "(warm_up.mode=auto)" in told
    assert "(warm_up.max_steps)" in sentences(artifacts, pass_rates=rates, warm_up={"done": True})


def test_no_gain_is_said_plainly(artifacts: Artifacts) -> None:
    comparisons = [
        {**one, "difference_points": -1.5, "p_value": 0.62} if one["a"] == "tuned" else one
        for one in artifacts.evaluation["comparisons"]
    ]
    told = sentences(artifacts, evaluation={**artifacts.evaluation, "comparisons": comparisons})
    assert "not shown to be better than the base model, read leniently (\u22121.5 points, p = 0.620)" in told
    assert "not shown to be better than the model after the warm-up" in told


def test_an_overlap_with_the_test_set_comes_first(artifacts: Artifacts) -> None:
    evaluation = {**artifacts.evaluation, "overlap": {"training": {"inputs": 150, "found": 2, "row_ids": ["a", "b"]}}}
    told = sentences(artifacts, evaluation=evaluation, selected=artifacts.selected[:9])
    assert told.startswith("problem: 2 held-out questions occur word for word in the training data")
    assert "note: Only 9 samples could be selected; 150 were asked for." in told


def test_what_cannot_be_read_of_the_tuned_model_is_told(artifacts: Artifacts) -> None:
    models = artifacts.evaluation["models"]
    verdicts = {"correct": 1, "wrong": 2, "no_answer": 200, "truncated": 92, "verifier_error": 5}
    evaluation = {**artifacts.evaluation, "models": {**models, "tuned": {**models["tuned"], "verdicts": verdicts}}}
    told = sentences(artifacts, evaluation=evaluation)
    assert "The verifier failed on 5 of 300 completions of the tuned model" in told
    assert "30.7% of the tuned model's held-out completions were cut" in told
    assert "it has not learned the format" in told


def test_an_unfinished_run_is_not_judged(make_run: Callable[..., RunDirectory]) -> None:
    assert diagnose(gather(make_run(until=Stage.SYNTHESIZE))) == []
