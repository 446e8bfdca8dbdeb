"""DPO learns from the token ids it is given and no others, and starts at ln 2."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import DPOConfig, DPOTrainer

from taskdef.config import build_config
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import SilentProgress
from taskdef.records import Stage, TaskDefinition, TrainingStep
from taskdef.store import RunDirectory, StageDirectory
from taskdef.train.dpo import Pair, PairTrainer, pair_dataset, train_on_pairs
from taskdef.train.loop import LOG_FILE

LoadTiny = Callable[..., TransformersPolicy]
MakeRun = Callable[..., StageDirectory]

STOP = 1
PAIRS = [
    Pair((20, 21, 22), (30, 31, STOP), (40, 41)),
    Pair((20, 21, 22), (30, 31, STOP), (42,)),
    Pair((23, 24), (32, STOP), (30, 43, 44, 45)),
    Pair((25,), (33, 34, 35, STOP), (33, 46)),
    Pair((26, 27, 28, 29), (36, STOP), (47, 48, 49)),
]
SETTINGS: dict[str, Any] = {
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "train.dpo.learning_rate": 1e-3,
    "train.dpo.batch": 2,
    "train.dpo.epochs": 2,
    "train.micro_batch": 2,
    "train.save_every": 2,
}


@pytest.fixture
def make_run(tmp_path: Path, letters: TaskDefinition) -> MakeRun:
    def make(name: str, **settings: Any) -> StageDirectory:
        config = build_config(overrides=SETTINGS | {key.replace("__", "."): value for key, value in settings.items()})
        directory = RunDirectory.create(tmp_path / name, letters, config).stage(Stage.TRAIN)
        directory.open()
        return directory

    return make


class StopAfter(SilentProgress):
    """Stops the process, as Ctrl-C would, after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, units: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def train(policy: TransformersPolicy, directory: StageDirectory, pairs: list[Pair], **named: Any) -> list[TrainingStep]:
    config, model_path = directory.run.config, directory.run.model_path
    return train_on_pairs(pairs, policy, config, directory=directory, model_path=model_path, **named)


def log_probability(policy: TransformersPolicy, prompt: tuple[int, ...], completion: tuple[int, ...]) -> float:
    """Of the completion's tokens, from one plain forward pass."""
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        logits = policy.model.eval()(ids).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None]).sum())


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_the_loss_is_ln_2_at_the_reference_and_falls(
    adapter: str, load_tiny: LoadTiny, tiny_llama: Path, make_run: MakeRun
) -> None:
    steps = train(load_tiny(tiny_llama), make_run("run", train__adapter=adapter), PAIRS)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]  # five pairs are three steps of two
    assert steps[0].loss == pytest.approx(math.log(2), abs=1e-5)
    assert steps[0].margin == pytest.approx(0, abs=1e-5)
    assert steps[5].loss is not None
    assert steps[5].loss < 0.69
    assert steps[5].margin is not None
    assert steps[5].margin > 0


def test_the_second_steps_loss_is_the_formula(load_tiny: LoadTiny, tiny_llama: Path, make_run: MakeRun) -> None:
    pair = Pair((20, 21, 22), (30, 31, STOP), (40, 41))
    one, two = make_run("one", train__dpo__max_steps=1), make_run("two", train__dpo__max_steps=2)
    reference, policy = load_tiny(tiny_llama), load_tiny(tiny_llama)
    train(policy, one, [pair])
    tuned = load_tiny(one.run.model_path)
    ratios = [
        log_probability(tuned, pair.prompt_ids, side) - log_probability(reference, pair.prompt_ids, side)
        for side in (pair.chosen_ids, pair.rejected_ids)
    ]
    expected = -math.log(1 / (1 + math.exp(-0.1 * (ratios[0] - ratios[1]))))
    second = train(load_tiny(tiny_llama), two, [pair])[1]
    assert second.loss == pytest.approx(expected, rel=1e-5)
    assert second.chosen_log_probability == pytest.approx(
        log_probability(tuned, pair.prompt_ids, pair.chosen_ids), rel=1e-5
    )
    assert second.rejected_log_probability == pytest.approx(
        log_probability(tuned, pair.prompt_ids, pair.rejected_ids), rel=1e-5
    )


def test_both_sides_are_trained_on_as_given(load_tiny: LoadTiny, tiny_llama: Path, tmp_path: Path) -> None:
    policy = load_tiny(tiny_llama)
    arguments = DPOConfig(
        output_dir=str(tmp_path), precompute_ref_log_probs=True, use_cpu=True, bf16=False, report_to="none"
    )
    trainer = PairTrainer(
        model=policy.model, args=arguments, processing_class=policy.tokenizer, train_dataset=pair_dataset(PAIRS)
    )
    rows = trainer.train_dataset.to_list()
    batch = trainer.data_collator(rows)
    trained = [
        ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert trained == [list(pair.chosen_ids) for pair in PAIRS] + [list(pair.rejected_ids) for pair in PAIRS]
    assert not any(STOP in ids for ids in trained[len(PAIRS) :])
    for pair, row in zip(PAIRS, rows, strict=True):
        expected = log_probability(policy, pair.prompt_ids, pair.rejected_ids)
        assert row["ref_rejected_logps"] == pytest.approx(expected, rel=1e-5)


def test_pairs_that_no_step_reaches_cost_nothing(
    load_tiny: LoadTiny, tiny_llama: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    of_reference = PairTrainer._precompute_ref_logps

    def counted(trainer: PairTrainer, dataset: Any, *rest: Any) -> Any:
        given.append(len(dataset))
        return of_reference(trainer, dataset, *rest)

    monkeypatch.setattr(PairTrainer, "_precompute_ref_logps", counted)
    train(load_tiny(tiny_llama), make_run("short", train__dpo__max_steps=2), PAIRS)
    train(load_tiny(tiny_llama), make_run("whole"), PAIRS)
    assert given == [4, 5]


@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_going_on_gives_what_an_undisturbed_training_gives(
    stop_after: int, load_tiny: LoadTiny, tiny_llama: Path, make_run: MakeRun
) -> None:
    undisturbed, stopped = make_run("undisturbed"), make_run("stopped")
    straight = train(load_tiny(tiny_llama), undisturbed, PAIRS)
    with pytest.raises(KeyboardInterrupt):
        train(load_tiny(tiny_llama), stopped, PAIRS, progress=StopAfter(stop_after))
    train(load_tiny(tiny_llama), stopped, PAIRS)
    logged = stopped.read_records(LOG_FILE, TrainingStep)
    assert [step.model_dump(exclude={"seconds"}) for step in logged] == [
        step.model_dump(exclude={"seconds"}) for step in straight
    ]


def test_bf16_weights_learn_through_their_float32_copies(
    load_tiny: LoadTiny, tiny_llama: Path, make_run: MakeRun
) -> None:
    directory = make_run("run", policy__dtype="bfloat16", train__dpo__learning_rate=1e-5)
    steps = train(load_tiny(tiny_llama, dtype="bfloat16"), directory, PAIRS)
    assert len(steps) == 6
    assert (directory.run.model_path / "model.safetensors").exists()


def test_an_empty_side_and_no_pairs_are_refused(load_tiny: LoadTiny, tiny_llama: Path, make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="rejected_ids are empty"):
        Pair((1,), (2,), ())
    with pytest.raises(ValueError, match="no pairs to train on"):
        train(load_tiny(tiny_llama), make_run("run"), [])


def test_trl_still_has_what_is_overridden() -> None:
    """A changed signature would be overridden in vain, or not at all."""
    assert list(inspect.signature(DPOTrainer._prepare_dataset).parameters) == [
        "self",
        "dataset",
        "processing_class",
        "args",
        "dataset_name",
    ]
    assert list(inspect.signature(DPOTrainer._precompute_ref_logps).parameters) == [
        "self",
        "dataset",
        "name",
        "batch_size",
    ]
    assert list(inspect.signature(DPOTrainer.compute_ref_log_probs).parameters) == ["self", "model", "inputs"]
