"""GRPO with shared prompts and without zero-signal groups takes the steps that TRL's own trainer takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from trl import GRPOTrainer, RLOOTrainer
from trl.trainer.utils import RepeatSampler

from taskdef.config import TrainConfig
from taskdef.policy import shared_prefix
from taskdef.policy.prompting import PromptEncoder
from taskdef.policy.shared_prefix import PackedGroups
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.records import Sample
from taskdef.train import shared_prompts
from taskdef.train.grpo import SharedPrefillGRPOTrainer, grpo_arguments, keep_signal
from taskdef.train.loop import largest_divisor, lora_config
from taskdef.train.online import prompt_dataset
from taskdef.train.shared_prompts import EpochSampler, grouped_log_probabilities, groups_together

LoadTiny = Callable[..., TransformersPolicy]

COMPLETIONS = {
    "0 + 1?": [[20, 21, 22, 1], [30, 1], [40, 41, 42, 43, 44], [50, 51, 1]],
    "1 + 2?": [[60, 1], [61, 62, 63, 64, 65], [66, 67, 68, 1], [1]],
}
SIGNAL = {"0 + 1?": [1.0, 0.0, 0.1, 0.1], "1 + 2?": [0.0, 0.0, 1.0, 0.0]}
HALF_A_SIGNAL = {"0 + 1?": [1.0, 0.0, 0.1, 0.1], "1 + 2?": [0.1, 0.1, 0.1, 0.1]}
NO_SIGNAL = {"0 + 1?": [0.0] * 4, "1 + 2?": [1.0] * 4}


class Step(TrainerCallback):
    """What one optimizer step was made of."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}
        self.logs: dict[str, Any] = {}

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        self.gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}

    def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        self.logs = logs | self.logs


class FixedTrainer(SharedPrefillGRPOTrainer):
    """Takes the completions from the table above, so that both trainers learn from the same."""

    def roll_out(self, prompts: list[str], _trainer: GRPOTrainer) -> dict[str, Any]:
        return fixed_rollout(prompts, self.encoder)


def fixed_rollout(prompts: list[str], encoder: PromptEncoder) -> dict[str, Any]:
    taken: dict[str, int] = {}
    completions = []
    for prompt in prompts:
        place = taken.get(prompt, 0)
        taken[prompt] = place + 1
        completions.append(COMPLETIONS[prompt][place])
    return {
        "prompt_ids": [encoder.prompt_ids(prompt) for prompt in prompts],
        "completion_ids": completions,
        "logprobs": None,
    }


def one_step(
    policy: TransformersPolicy,
    samples: Sequence[Sample],
    folder: Path,
    *,
    stock: bool,
    rewards: dict[str, list[float]],
    lora: bool = False,
    **settings: Any,
) -> Step:
    given = {"batch": 2, "completions": 4, "micro_batch": 4, "max_steps": 1, "max_gradient_norm": 1e9} | settings
    config = TrainConfig.model_validate(given)
    encoder = policy.encoder
    table = {
        (prompt, tuple(ids)): value
        for prompt, values in rewards.items()
        for ids, value in zip(COMPLETIONS[prompt], values, strict=True)
    }

    def reward(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [table[prompt, tuple(ids)] for prompt, ids in zip(prompts, completion_ids, strict=True)]

    step = Step()
    named: dict[str, Any] = {
        "model": policy.model,
        "reward_funcs": reward,
        "args": grpo_arguments(
            config, output_dir=str(folder), max_new_tokens=5, samples=len(samples), seed=0, use_cpu=True
        ),
        "train_dataset": prompt_dataset(samples, config.batch),
        "processing_class": policy.tokenizer,
        "peft_config": lora_config(4) if lora else None,
        "callbacks": [step],
    }
    torch.manual_seed(0)  # LoRA draws its first weights
    if stock:
        trainer = GRPOTrainer(**named, rollout_func=lambda prompts, _: fixed_rollout(prompts, encoder))
    else:
        trainer = FixedTrainer(**named, encoder=encoder, stop_ids=policy.stop_ids, batch_tokens=4096)
    # away from the reference model, or the KL part and its gradient would be zero
    torch.manual_seed(1)
    with torch.no_grad():
        for each in trainer.model.parameters():
            if each.requires_grad:
                each.add_(torch.randn_like(each) * 0.05)
    trainer.train()
    return step


@pytest.mark.parametrize(
    ("rewards", "settings"),
    [
        (SIGNAL, {"kl_coefficient": 0.0}),
        (SIGNAL, {"kl_coefficient": 0.01}),
        (SIGNAL, {"kl_coefficient": 0.01, "micro_batch": 8}),
        (SIGNAL, {"kl_coefficient": 0.01, "loss_type": "grpo"}),
        (SIGNAL, {"kl_coefficient": 0.01, "lora": True}),
        (HALF_A_SIGNAL, {"kl_coefficient": 0.0}),  # a group is left out, and nothing changes
        (HALF_A_SIGNAL, {"kl_coefficient": 0.01, "loss_type": "dr_grpo"}),  # where it cannot be, it is not
    ],
    ids=["beta 0", "beta", "one micro-batch", "grpo loss", "lora", "half a signal", "half a signal, dr_grpo"],
)
def test_loss_and_gradients_are_those_of_the_stock_trainer(
    rewards: dict[str, list[float]],
    settings: dict[str, Any],
    tiny_llama: Path,
    load_tiny: LoadTiny,
    sum_samples: list[Sample],
    tmp_path: Path,
) -> None:
    ours, theirs = (
        one_step(load_tiny(tiny_llama), sum_samples[:2], tmp_path, stock=stock, rewards=rewards, **settings)
        for stock in (False, True)
    )
    assert ours.gradients.keys() == theirs.gradients.keys()
    assert len(ours.gradients) >= 14
    for name, gradient in theirs.gradients.items():
        assert (ours.gradients[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-9, name
    assert ours.logs["loss"] == pytest.approx(theirs.logs["loss"], rel=1e-4, abs=1e-7)
    assert ours.logs["grad_norm"] == pytest.approx(theirs.logs["grad_norm"], rel=1e-4)
    # the logged KL is a mean over micro-batches, so it depends on which rows are in one
    if rewards is SIGNAL and settings["kl_coefficient"] and "micro_batch" in settings:
        assert theirs.logs["kl"] > 0
        assert ours.logs["kl"] == pytest.approx(theirs.logs["kl"], rel=1e-4)
    for name in (
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "completions/mean_length",
        "completions/clipped_ratio",
    ):
        assert ours.logs[name] == theirs.logs[name], name


@pytest.mark.parametrize(("rewards", "share"), [(SIGNAL, 0.0), (HALF_A_SIGNAL, 0.5), (NO_SIGNAL, 1.0)])
def test_zero_signal_groups_are_counted_and_a_step_without_signal_moves_nothing(
    rewards: dict[str, list[float]],
    share: float,
    tiny_llama: Path,
    load_tiny: LoadTiny,
    sum_samples: list[Sample],
    tmp_path: Path,
) -> None:
    step = one_step(load_tiny(tiny_llama), sum_samples[:2], tmp_path, stock=False, rewards=rewards)
    assert step.logs["frac_reward_zero_std"] == share
    assert step.logs["reward"] == pytest.approx(sum(map(sum, rewards.values())) / 8)
    moved = any(gradient.any() for gradient in step.gradients.values())
    assert moved is (share < 1)
    assert all(gradient.isfinite().all() for gradient in step.gradients.values())


def test_groups_too_long_to_pack_take_the_stock_way(
    tiny_llama: Path,
    load_tiny: LoadTiny,
    sum_samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed, apart = (
        one_step(load_tiny(tiny_llama), sum_samples[:2], tmp_path, stock=False, rewards=SIGNAL)
        for _ in (monkeypatch.setattr(shared_prompts, "MOST_PACKED_POSITIONS", limit) for limit in (4096, 10))
    )
    for name, gradient in packed.gradients.items():
        assert (apart.gradients[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-9, name


def test_micro_batches_hold_the_completions_of_one_prompt_and_make_the_same_step(
    tiny_llama: Path,
    load_tiny: LoadTiny,
    sum_samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed: list[int] = []

    def pack_groups(prompts: Sequence[Sequence[int]], *rest: Any, **named: Any) -> PackedGroups:
        packed.append(len(prompts))
        return shared_prefix.pack_groups(prompts, *rest, **named)

    monkeypatch.setattr(shared_prompts, "pack_groups", pack_groups)
    whole, parts = (
        one_step(load_tiny(tiny_llama), sum_samples[:2], tmp_path, stock=False, rewards=SIGNAL, **settings)
        for settings in ({"kl_coefficient": 0.0, "micro_batch": size} for size in (8, 4))
    )
    assert packed == [2, 1, 1]
    for name, gradient in whole.gradients.items():
        assert (parts.gradients[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-9, name


def test_rows_of_equal_prompts_come_together_in_the_order_of_the_first() -> None:
    total = torch.tensor(9)
    parts = [
        {"prompt_ids": torch.tensor([[0, 7], [0, 8]]), "advantages": torch.tensor([1.0, 2.0]), "total": total},
        {"prompt_ids": torch.tensor([[0, 8], [0, 7]]), "advantages": torch.tensor([3.0, 4.0]), "total": total},
    ]
    first, second = groups_together(parts)
    assert (first["prompt_ids"].tolist(), first["advantages"].tolist()) == ([[0, 7], [0, 7]], [1.0, 4.0])
    assert (second["prompt_ids"].tolist(), second["advantages"].tolist()) == ([[0, 8], [0, 8]], [2.0, 3.0])
    assert first["total"] is total


def test_a_model_whose_layers_cannot_share_takes_the_stock_way(
    tiny_lfm: Path, load_tiny: LoadTiny, sum_samples: list[Sample], tmp_path: Path
) -> None:
    ours, theirs = (
        one_step(load_tiny(tiny_lfm), sum_samples[:2], tmp_path, stock=stock, rewards=HALF_A_SIGNAL, kl_coefficient=0.0)
        for stock in (False, True)
    )
    for name, gradient in theirs.gradients.items():
        assert (ours.gradients[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-9, name


def batch(advantages: list[float], lengths: list[int]) -> dict[str, Any]:
    rows, width = len(advantages), max(lengths)
    mask = torch.tensor([[int(place < length) for place in range(width)] for length in lengths])
    number = torch.arange(rows)[:, None]
    return {
        "prompt_ids": number.expand(rows, 2),
        "prompt_mask": torch.ones(rows, 2, dtype=torch.long),
        "completion_ids": (10 * number + torch.arange(width)) * mask,
        "completion_mask": mask,
        "advantages": torch.tensor(advantages),
        "num_items_in_batch": mask.sum(),
    }


def test_rows_without_advantage_are_dropped() -> None:
    kept = keep_signal(batch([0.0, 1.0, 0.0, -1.0], lengths=[5, 2, 4, 3]), parts=1)
    assert kept["advantages"].tolist() == [1.0, -1.0]
    assert kept["prompt_ids"].tolist() == [[1, 1], [3, 3]]
    # cut to the longest completion that is left
    assert kept["completion_ids"].tolist() == [[10, 11, 0], [30, 31, 32]]
    assert kept["completion_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert kept["num_items_in_batch"] == 14  # still the whole batch's


@pytest.mark.parametrize(
    ("advantages", "parts", "kept_rows", "masked_rows"),
    [
        ([0.0, 1.0, 0.0, -1.0, 1.0, 0.0], 2, [1, 3, 4, 0], [3]),  # filled up to a multiple of the parts
        ([0.0, 0.0, 0.0, 0.0], 2, [0, 1], [0, 1]),
        ([0.0, 0.0, 0.0, 0.0], 4, [0, 1, 2, 3], [0, 1, 2, 3]),
        ([1.0, -1.0, 1.0, -1.0], 2, [0, 1, 2, 3], []),
    ],
)
def test_rows_that_fill_up_carry_no_loss(
    advantages: list[float], parts: int, kept_rows: list[int], masked_rows: list[int]
) -> None:
    kept = keep_signal(batch(advantages, lengths=[2] * len(advantages)), parts)
    assert kept["prompt_ids"][:, 0].tolist() == kept_rows
    assert [row for row, mask in enumerate(kept["completion_mask"].tolist()) if not any(mask)] == masked_rows


def test_padded_rows_in_any_order_are_grouped_by_their_prompts(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    model = load_tiny(tiny_llama).model
    prompts = [[7, 8, 9], [6], [7, 8, 9], [6]]
    completions = [[20, 21], [30], [40, 41, 42], [50, 51]]
    rows = [[0] * (3 - len(p)) + p + c + [0] * (3 - len(c)) for p, c in zip(prompts, completions, strict=True)]
    mask = [[int(token != 0) for token in row] for row in rows]
    found, _ = grouped_log_probabilities(model, torch.tensor(rows), torch.tensor(mask), 3, temperature=1.0)
    for row, (prompt, ids) in enumerate(zip(prompts, completions, strict=True)):
        logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        wanted = torch.log_softmax(logits, -1)[torch.arange(len(ids)), torch.tensor(ids)]
        assert torch.allclose(found[row, : len(ids)], wanted, rtol=1e-4)


@pytest.mark.parametrize(("total", "limit", "expected"), [(64, 16, 16), (64, 100, 64), (60, 16, 15), (7, 4, 1)])
def test_the_micro_batch_divides_the_batch(total: int, limit: int, expected: int) -> None:
    assert largest_divisor(total, limit) == expected


def test_an_epochs_order_follows_from_seed_and_epoch() -> None:
    def orders(seed: int, epochs: list[int]) -> list[list[int]]:
        sampler = EpochSampler(list(range(20)), 2, 5, 1, True, seed)
        found = []
        for epoch in epochs:
            sampler.set_epoch(epoch)
            found.append(list(sampler))
        return found

    first, second, third = orders(0, [0, 1, 2])
    assert orders(0, [2]) == [third]  # as where a run goes on in its third epoch
    assert first != second
    assert orders(1, [0]) != [first]
    assert sorted(first) == sorted(list(range(20)) * 2)
    assert first[0::2] == first[1::2]  # a prompt's completions stand together


def test_trl_still_calls_what_is_overridden_as_it_did() -> None:
    """A new TRL that passes other arguments would train on the wrong numbers without an error."""
    assert list(inspect.signature(GRPOTrainer._generate_and_score_completions).parameters) == ["self", "inputs"]
    assert list(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters) == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
        "pixel_values",
        "image_grid_thw",
        "num_images",
        "pixel_attention_mask",
        "spatial_shapes",
        "num_tiles",
        "image_sizes",
        "token_type_ids",
        "mm_token_type_ids",
        "image_position_ids",
    ]
    for trainer in (GRPOTrainer, RLOOTrainer):
        # shuffled once for all of a step's rollouts, then kept in parts under this name
        assert list(inspect.signature(trainer._prepare_inputs).parameters) == ["self", "generation_batch"]
        source = inspect.getsource(trainer._prepare_inputs)
        assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in source
    assert inspect.signature(GRPOTrainer.__init__).parameters["rollout_func"].default is None
    assert list(inspect.signature(GRPOTrainer._get_train_sampler).parameters) == ["self", "dataset"]
    assert list(inspect.signature(RepeatSampler.__init__).parameters) == [
        "self",
        "data_source",
        "mini_repeat_count",
        "batch_size",
        "repeat_count",
        "shuffle",
        "seed",
    ]
