"""Shared prompts change no gradient: two architectures, full weights and adapters, prompts longer than a window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOTrainer

from taskdef.config import TrainConfig
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.train.grpo import SharedPrefillGRPOTrainer, grpo_arguments
from taskdef.train.loop import lora_config

LoadTiny = Callable[..., TransformersPolicy]
PROMPTS = {"long": [*range(5, 45)], "short": [7, 8, 9]}
COMPLETIONS = {
    "long": [[20, 21, 22, 1], [30, 1], [40, 41, 42, 43, 44], [1]],
    "short": [[60, 1], [61, 62, 63, 64, 65], [66, 67, 68, 1], [50, 51, 1]],
}
REWARDS = [1.0, 0.0, 0.3, 0.0]


class Gradients(TrainerCallback):
    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        self.found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


class Encoder:
    def prompt_ids(self, text: str) -> list[int]:
        return PROMPTS[text]


def rollout(prompts: list[str], _trainer: GRPOTrainer) -> dict[str, Any]:
    """TRL pads prompts on the left and completions on the right; both are needed here."""
    places = [prompts[:place].count(prompt) for place, prompt in enumerate(prompts)]
    return {
        "prompt_ids": [PROMPTS[prompt] for prompt in prompts],
        "completion_ids": [COMPLETIONS[prompt][place] for prompt, place in zip(prompts, places, strict=True)],
        "logprobs": None,
    }


def reward(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [REWARDS[COMPLETIONS[prompt].index(ids)] for prompt, ids in zip(prompts, completion_ids, strict=True)]


def gradients(policy: TransformersPolicy, folder: Path, *, stock: bool, lora: bool) -> dict[str, torch.Tensor]:
    config = TrainConfig(batch=2, completions=4, micro_batch=8, max_steps=1, max_gradient_norm=1e9)
    callback = Gradients()
    named: dict[str, Any] = {
        "model": policy.model,
        "reward_funcs": reward,
        "args": grpo_arguments(config, output_dir=str(folder), max_new_tokens=5, samples=2, seed=0, use_cpu=True),
        "train_dataset": Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        "processing_class": policy.tokenizer,
        "peft_config": lora_config(4) if lora else None,
        "callbacks": [callback],
    }
    torch.manual_seed(0)  # LoRA draws its first weights
    if stock:
        trainer = GRPOTrainer(**named, rollout_func=rollout)
    else:
        trainer = SharedPrefillGRPOTrainer(
            **named,
            encoder=Encoder(),
            stop_ids=policy.stop_ids,
            batch_tokens=4096,  # type: ignore[arg-type]
        )
        trainer.rollout_func = rollout
        assert trainer.shares_prefixes
    torch.manual_seed(1)
    with torch.no_grad():  # away from the reference model, or the KL part would have no gradient
        for each in trainer.model.parameters():
            if each.requires_grad:
                each.add_(torch.randn_like(each) * 0.05)
    trainer.train()
    return callback.found


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("architecture", ["tiny_llama", "tiny_gemma"])
def test_gradients_are_those_of_the_stock_trainer(
    architecture: str, lora: bool, load_tiny: LoadTiny, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(architecture)
    ours, theirs = (gradients(load_tiny(folder), tmp_path, stock=stock, lora=lora) for stock in (False, True))
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 14
    for name, gradient in theirs.items():
        assert gradient.norm() > 0, name
        assert (ours[name] - gradient).norm() < 1e-4 * gradient.norm(), name
