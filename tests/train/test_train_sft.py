"""SFT learns the completion's tokens, its end included, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from taskdef.config import build_config
from taskdef.errors import RunError
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import SilentProgress
from taskdef.records import Attempt, Sample, Stage, TaskDefinition, TrainingStep
from taskdef.store import RunDirectory
from taskdef.train.job import Training, TrainingJob
from taskdef.train.loop import LOG_FILE
from taskdef.train.sft import make_lessons, train_sft
from taskdef.verify.isolated import Verifier

LoadTiny = Callable[..., TransformersPolicy]
MakeJob = Callable[..., TrainingJob]

SETTINGS: dict[str, Any] = {
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "train.method": "sft",
    "train.sft.learning_rate": 1e-2,
    "train.sft.batch": 5,
    "train.sft.epochs": 2,
    "train.micro_batch": 5,
    "train.save_every": 2,
}
END = 1
"""The end-of-sequence token of the tiny models."""


class StopAfter(SilentProgress):
    """Stops the process, as Ctrl-C would, after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, units: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def make_job(
    tmp_path: Path,
    sums: TaskDefinition,
    sums_verifier: Verifier,
    sum_samples: list[Sample],
    tiny_llama: Path,
    load_tiny: LoadTiny,
) -> MakeJob:
    def make(
        name: str,
        *,
        progress: SilentProgress | None = None,
        samples: Sequence[Sample] = sum_samples,
        recorded: Sequence[Attempt] = (),
        **settings: Any,
    ) -> TrainingJob:
        config = build_config(overrides=SETTINGS | {key.replace("__", "."): value for key, value in settings.items()})
        directory = RunDirectory.create(tmp_path / name, sums, config).stage(Stage.TRAIN)
        directory.open()
        return TrainingJob(
            policy=load_tiny(tiny_llama, dtype=config.policy.dtype),
            samples=samples,
            config=config,
            recorded=recorded,
            verifier=sums_verifier,
            directory=directory,
            model_path=directory.run.model_path,
            progress=progress or SilentProgress(),
        )

    return make


def mean_loss(policy: TransformersPolicy, samples: Sequence[Sample]) -> float:
    """Cross-entropy a solution token, from one plain forward pass a sample."""
    total, tokens = 0.0, 0
    for sample in samples:
        prompt, wanted = policy.encoder.prompt_ids(sample.input), policy.encoder.completion_ids(sample.solution)
        assert wanted[-1] == END
        with torch.no_grad():
            logits = policy.model.eval()(torch.tensor([prompt + wanted])).logits[0, len(prompt) - 1 : -1]
        total -= float(logits.log_softmax(-1).gather(1, torch.tensor(wanted)[:, None]).sum())
        tokens += len(wanted)
    return total / tokens


def figures(training: Training) -> list[dict[str, Any]]:
    return [step.model_dump(exclude={"seconds"}) for step in training.steps]


@pytest.mark.parametrize("micro_batch", [3, 12])
def test_the_first_loss_is_that_of_the_solutions_tokens(
    micro_batch: int, make_job: MakeJob, sum_samples: list[Sample]
) -> None:
    job = make_job("run", train__sft__batch=12, train__micro_batch=micro_batch)
    expected = mean_loss(job.policy, sum_samples)
    training = train_sft(job)
    assert training.steps[0].loss == pytest.approx(expected, rel=1e-5)
    assert training.counts == {"solutions": 12, "beyond_context": 0}


def test_the_tuned_model_has_learned_the_solutions(
    make_job: MakeJob, load_tiny: LoadTiny, sum_samples: list[Sample]
) -> None:
    job = make_job("run", train__sft__epochs=8)
    before = mean_loss(job.policy, sum_samples)
    training = train_sft(job)
    assert len(training.steps) == 24  # 12 solutions are three steps of at most 5
    assert mean_loss(load_tiny(job.model_path), sum_samples) < before / 2
    assert [path.name for path in job.directory.path.iterdir()] == [LOG_FILE]
    assert {step.reward for step in training.steps} == {None}


def test_a_solution_beyond_the_models_context_is_left_out_and_counted(
    load_tiny: LoadTiny, make_llama: Callable[..., Path]
) -> None:
    policy = load_tiny(make_llama(max_position_embeddings=41))
    # byte-level tokens: the prompt is "1+1?", two line ends, the output format (29) and a line end: 36
    lessons, counts = make_lessons(policy, [("1+1?", "1234"), ("1+1?", "12345")])
    assert [len(lesson.prompt_ids) for lesson in lessons] == [36]
    assert counts == {"solutions": 1, "beyond_context": 1}
    with pytest.raises(RunError, match="of 1 solutions none fits the model's context of 41 tokens"):
        make_lessons(policy, [("1+1?", "12345")])


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_going_on_gives_what_an_undisturbed_training_gives(stop_after: int, adapter: str, make_job: MakeJob) -> None:
    straight = train_sft(make_job("undisturbed", train__adapter=adapter))
    with pytest.raises(KeyboardInterrupt):
        train_sft(make_job("stopped", train__adapter=adapter, progress=StopAfter(stop_after)))
    job = make_job("stopped", train__adapter=adapter)
    assert figures(train_sft(job)) == figures(straight)
    assert len(job.directory.read_records(LOG_FILE, TrainingStep)) == 6


def test_bf16_weights_learn_through_their_float32_copies(make_job: MakeJob) -> None:
    training = train_sft(make_job("run", policy__dtype="bfloat16", train__sft__epochs=4))
    losses = [step.loss for step in training.steps]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]
