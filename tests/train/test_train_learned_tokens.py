"""The forward pass on learned tokens gives TRL's own losses, gradients and logged figures, from fewer positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import DPOConfig, SFTConfig, SFTTrainer

from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.train.dpo import Pair, PairTrainer, pair_dataset
from taskdef.train.learned_tokens import Group, share_beginnings
from taskdef.train.loop import lora_config
from taskdef.train.sft import Lesson, LessonTrainer, lesson_dataset

LoadTiny = Callable[..., TransformersPolicy]

STOP = 1
PROMPT = tuple(range(20, 42))
"""Longer than the windows of the tiny models' sliding layers."""
PAIRS = [
    Pair(PROMPT, (30, 31, 32, 33, STOP), (40, 41)),
    Pair(PROMPT, (30, 31, STOP), (42,)),
    Pair((23, 24), (32, STOP), (30, 43, 44, 45)),
    Pair((25,), (33, 34, 35, STOP), (33, 46)),
]
LESSONS = [Lesson(pair.prompt_ids, pair.chosen_ids) for pair in PAIRS]
ARGUMENTS: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "seed": 0}


class StockPairTrainer(PairTrainer):
    """Both sides of a pair by themselves, the head on every position: TRL's own forward pass."""

    shares_prompts = False


@pytest.fixture
def positions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of every linear layer's call that is one of a head: rows that went in, and the vocabulary."""
    seen: list[tuple[int, int]] = []
    linear = torch.nn.functional.linear

    def watched(given: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append((given.numel() // given.shape[-1], weight.shape[0]))
        return linear(given, weight, *rest)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    return seen


def step_of_dpo(trainer_class: type[PairTrainer], policy: TransformersPolicy, folder: Path, *, lora: bool) -> Any:
    """Loss, gradients and logged figures of a batch, whose reference is not the model any more."""
    trainer = trainer_class(
        model=policy.model,
        args=DPOConfig(output_dir=str(folder), precompute_ref_log_probs=True, **ARGUMENTS),
        processing_class=policy.tokenizer,
        train_dataset=pair_dataset(PAIRS),
        peft_config=lora_config(4) if lora else None,
    )
    batch = trainer.data_collator(trainer.train_dataset.to_list())
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn_like(weight))
    return taken(trainer, batch)


def taken(trainer: Any, batch: dict[str, torch.Tensor]) -> Any:
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {name: weight.grad for name, weight in trainer.model.named_parameters() if weight.grad is not None}
    return loss.detach(), gradients, {name: values[-1] for name, values in trainer._metrics["train"].items()}, batch


def assert_same(ours: Any, theirs: Any) -> None:
    assert float(ours[0]) == pytest.approx(float(theirs[0]), rel=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    assert ours[1]
    for name, gradient in theirs[1].items():
        error = (ours[1][name] - gradient).norm() / gradient.norm().clamp(min=1e-8)
        assert error < 1e-4, name
    assert ours[2] == pytest.approx(theirs[2], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("architecture", ["tiny_llama", "tiny_gemma"])
def test_a_pair_as_one_sequence_is_trls_dpo(
    architecture: str, lora: bool, load_tiny: LoadTiny, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(architecture)
    ours, theirs = (
        step_of_dpo(trainer_class, load_tiny(folder), tmp_path, lora=lora)
        for trainer_class in (PairTrainer, StockPairTrainer)
    )
    assert_same(ours, theirs)
    for side in ("ref_chosen_logps", "ref_rejected_logps"):
        assert ours[3][side].tolist() == pytest.approx(theirs[3][side].tolist(), rel=1e-5)
    assert abs(float(ours[0]) - 0.6931) > 1e-3  # away from the reference, where nothing could differ


def test_a_prompt_is_run_once_and_the_head_on_completions_alone(
    load_tiny: LoadTiny, tiny_llama: Path, tmp_path: Path, positions: list[tuple[int, int]]
) -> None:
    policy = load_tiny(tiny_llama)
    step_of_dpo(PairTrainer, policy, tmp_path, lora=False)
    tokens = sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in PAIRS)
    assert positions[-1] == (tokens, policy.model.config.vocab_size)
    # the two pairs of the long prompt are one sequence, of all four completions; the others are filled up to its length
    longest = len(PROMPT) + 5 + 2 + 3 + 1
    assert max(rows for rows, _ in positions) <= len(PAIRS) * longest
    assert longest * 2 < 4 * (len(PROMPT) + 5)


def test_rows_are_put_together_where_that_is_cheaper() -> None:
    task, question, other = list(range(100, 180)), [1, 2, 3], [4, 5]
    rows = [[*task, *question, 9], [7, 8, 9], [*task, *other, 9], [*task, *question, 8, 9]]
    first = [83, 2, 82, 83]
    groups = share_beginnings(rows, first)
    assert sorted(row for group in groups for row in group.rows) == [0, 1, 2, 3]
    assert {(frozenset(group.rows), group.shared) for group in groups} == {
        (frozenset({0, 2, 3}), 80),
        (frozenset({1}), 2),
    }
    # a long group beside many short rows would make sequences of their own of them, each filled up to its length
    short = [[200 + number, 9] for number in range(40)]
    assert all(len(group.rows) == 1 for group in share_beginnings([*rows, *short], [*first, *[1] * 40]))
    # equal rows share their prompts, never what is learned
    assert share_beginnings([[1, 2, 3], [1, 2, 3]], [2, 2]) == [Group((0, 1), 2)]
    # long questions behind a short beginning are cheaper apart: attention grows with the square
    apart = [[5, *[kind] * 3000] for kind in (1, 2)]
    assert len(share_beginnings(apart, [2999, 2999])) == 2


def test_models_that_cannot_share_prompts_learn_by_trls_own_pass(
    load_tiny: LoadTiny, tiny_lfm: Path, tmp_path: Path
) -> None:
    ours, theirs = (
        step_of_dpo(trainer_class, load_tiny(tiny_lfm), tmp_path, lora=False)
        for trainer_class in (PairTrainer, StockPairTrainer)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("architecture", ["tiny_llama", "tiny_gemma", "tiny_lfm"])
def test_sft_whose_head_leaves_prompts_out_is_trls(
    architecture: str,
    lora: bool,
    load_tiny: LoadTiny,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    positions: list[tuple[int, int]],
) -> None:
    folder: Path = request.getfixturevalue(architecture)
    found = []
    for trainer_class in (SFTTrainer, LessonTrainer):
        policy = load_tiny(folder)
        trainer = trainer_class(
            model=policy.model,
            args=SFTConfig(
                output_dir=str(tmp_path), dataset_kwargs={"skip_prepare_dataset": True}, loss_type="nll", **ARGUMENTS
            ),
            processing_class=policy.tokenizer,
            train_dataset=lesson_dataset(LESSONS),
            peft_config=lora_config(4) if lora else None,
        )
        found.append(taken(trainer, trainer.data_collator(trainer.train_dataset.to_list())))
    assert_same(found[1], found[0])
    heads = [rows for rows, width in positions if width == policy.model.config.vocab_size]
    assert heads[-1] == sum(len(lesson.completion_ids) for lesson in LESSONS)
