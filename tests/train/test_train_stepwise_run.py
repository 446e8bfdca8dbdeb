"""``train.method=stepwise`` from samples to a checkpoint: what is trained on, going on, and what is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from taskdef.config import build_config
from taskdef.errors import ConfigError, RunError
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import SilentProgress
from taskdef.records import Sample, Stage, TaskDefinition
from taskdef.store import RunDirectory, StageDirectory
from taskdef.train import step_pairs as step_pairs_module
from taskdef.train.dpo import PairTrainer
from taskdef.train.job import Training
from taskdef.train.q_values import StepValues
from taskdef.train.stage import summarise, train_policy
from taskdef.verify.isolated import Verifier

SETTINGS: dict[str, Any] = {
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 6,
    "train.method": "stepwise",
    "train.stepwise.best_of": 2,
    "train.stepwise.rollouts": 40,
    "train.stepwise.temperature": 1.0,
    "train.stepwise.wrong_responses": 2,
    "train.dpo.batch": 4,
    "train.dpo.learning_rate": 1e-3,
    "train.dpo.max_steps": 3,
    "train.save_every": 2,
}
SAMPLES = [Sample(id=letter, input=f"Name {letter}!", solution=letter, answer=letter) for letter in "LMNOPQ"]
STOP_IDS = frozenset(range(1, 60))
"""Bytes that an untrained model writes often, so that its responses end."""


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def responses_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(step_pairs_module._GAPS, "sentences", re.compile(r"(?<=.)"))  # a step a character
    monkeypatch.setattr("taskdef.policy.transformers_policy.stop_token_ids", lambda *_: STOP_IDS)


@pytest.fixture
def train(
    tmp_path: Path, tiny_llama: Path, letters: TaskDefinition, letters_verifier: Verifier
) -> Callable[..., tuple[Training, StageDirectory]]:
    def start(name: str, samples: list[Sample] = SAMPLES, **named: Any) -> tuple[Training, StageDirectory]:
        progress = named.pop("progress", None)
        overrides = SETTINGS | {f"train.stepwise.{key}": value for key, value in named.items()}
        if (tmp_path / name).exists():
            directory = RunDirectory.open(tmp_path / name).stage(Stage.TRAIN)
        else:
            run = RunDirectory.create(tmp_path / name, letters, build_config(overrides=overrides))
            directory = run.stage(Stage.TRAIN)
            directory.open()
        training = train_policy(
            letters,
            samples,
            directory.run.config,
            start=tiny_llama,
            model_path=directory.run.model_path,
            verifier=letters_verifier,
            directory=directory,
            progress=progress,
        )
        return training, directory

    return start


Train = Callable[..., tuple[Training, StageDirectory]]


@pytest.mark.parametrize("pairs", ["response", "step"])
def test_no_stop_token_of_a_rejected_side_is_trained_on(
    pairs: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    stock = PairTrainer.compute_loss

    def noting(self: PairTrainer, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        seen.append({key: value.clone() for key, value in inputs.items() if isinstance(value, torch.Tensor)})
        return stock(self, model, inputs, *rest, **named)

    monkeypatch.setattr(PairTrainer, "compute_loss", noting)
    progress = Lines()
    training, directory = train("run", pairs=pairs, progress=progress)
    assert len(training.steps) == 3
    assert training.steps[0].loss == pytest.approx(0.693147, abs=1e-5)
    stop = torch.tensor(sorted(STOP_IDS))
    for batch in seen:
        assert set(batch) == {
            "input_ids",
            "attention_mask",
            "completion_mask",
            "ref_chosen_logps",
            "ref_rejected_logps",
        }
        trained_on = batch["completion_mask"].bool()
        chosen, rejected = (torch.isin(batch["input_ids"], stop) & trained_on).chunk(2)
        assert not rejected.any()
        assert chosen.any() == (pairs == "response")
        assert trained_on.any(dim=1).all()
    values = directory.read_records("steps.jsonl", StepValues)
    counts = training.counts
    assert counts["wrong_responses"] == len(values) >= counts["pairs"] > 0
    assert counts["rollouts"] == 40 * counts["prefixes_rolled_out"]
    assert counts["prefixes_rolled_out"] < counts["prefixes_asked_for"] or pairs == "response"
    share = counts["truncated_rollouts"] / counts["rollouts"]
    assert progress.lines == [
        f"stepwise: {counts['pairs']} pairs from {counts['wrong_responses']} wrong responses; "
        f"{counts['rollouts']} rollouts, {share:.1%} of them cut by the token limit"
    ]
    assert summarise(training, "stepwise")["pairs"] == counts["pairs"]
    assert training.artifacts == ["rollouts.jsonl", "steps.jsonl"]


def test_a_run_that_was_killed_goes_on_from_its_rollouts(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, expected = train("undisturbed")
    stock = TransformersPolicy.continue_prefixes
    rounds: list[int] = []

    def dying(self: TransformersPolicy, prefixes: Any, **named: Any) -> Any:
        rounds.append(len(prefixes))
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return stock(self, prefixes, **named)

    monkeypatch.setattr(TransformersPolicy, "continue_prefixes", dying)
    with pytest.raises(KeyboardInterrupt):
        train("killed")
    again, directory = train("killed")
    assert rounds[0] == 6  # the start of each sample, not once more
    assert sum(rounds[2:]) == undisturbed.counts["prefixes_rolled_out"] - 6
    assert again.counts == undisturbed.counts
    for name in ("rollouts.jsonl", "steps.jsonl"):
        assert (directory.path / name).read_bytes() == (expected.path / name).read_bytes()
    tuned, same = (load_file(each.run.model_path / "model.safetensors") for each in (directory, expected))
    assert all(torch.equal(tuned[key], same[key]) for key in same)


def test_samples_that_give_no_pair_are_refused(train: Train) -> None:
    never = [Sample(id=f"s{n}", input=f"Name {n}!", solution="long", answer="not a letter") for n in range(2)]
    with pytest.raises(RunError) as refusal:
        train("run", never)
    assert str(refusal.value) == (
        "stepwise: 2 samples give no pair (never solved 2)\n"
        "  next: where samples are never solved, --set train.method=sft first and its model as train.start, or more "
        "rollouts (--set train.stepwise.rollouts=…); where they are never wrong, harder samples"
    )


def test_fewer_rollouts_than_the_estimate_needs_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rollouts: input should be more than best_of=5 .*given: 5"):
        build_config(overrides={"train.stepwise.rollouts": 5})
