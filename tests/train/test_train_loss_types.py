"""Every loss variant and RLOO with shared prompts take the steps that TRL's own trainers take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from trl import GRPOTrainer, RLOOTrainer

from taskdef.config import TrainConfig
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.records import Sample
from taskdef.train.grpo import NORMALISED_BY_TOKENS, SharedPrefillGRPOTrainer, grpo_arguments
from taskdef.train.online import prompt_dataset
from taskdef.train.rloo import SharedPromptsRLOOTrainer, rloo_arguments

LoadTiny = Callable[..., TransformersPolicy]

COMPLETIONS = {
    "0 + 1?": [[20, 21, 22, 1], [30, 1], [40, 41, 42, 43, 44], [50, 51, 1]],
    "1 + 2?": [[60, 1], [61, 62, 63, 64, 65], [66, 67, 68, 1], [1]],
}
REWARDS = {"0 + 1?": [1.0, 0.0, 0.1, 0.1], "1 + 2?": [0.0, 0.0, 1.0, 0.0]}
HALF_A_SIGNAL = {"0 + 1?": [1.0, 0.0, 0.1, 0.1], "1 + 2?": [0.0] * 4}


def rolled_out(prompts: list[str]) -> list[list[int]]:
    taken = dict.fromkeys(prompts, 0)
    completions = []
    for prompt in prompts:
        completions.append(COMPLETIONS[prompt][taken[prompt]])
        taken[prompt] += 1
    return completions


def fixed(trainer: type, stock: bool) -> type:
    """The trainer, with the completions of the table above."""

    class Fixed(trainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            if stock:
                self.table_encoder = named.pop("encoder")
                del named["stop_ids"], named["batch_tokens"]
                if trainer is GRPOTrainer:
                    named["rollout_func"] = self.from_table
            super().__init__(*arguments, **named)

        def from_table(self, prompts: list[str], _trainer: Any) -> dict[str, Any]:
            ids = [self.table_encoder.prompt_ids(prompt) for prompt in prompts]
            return {"prompt_ids": ids, "completion_ids": rolled_out(prompts), "logprobs": None}

        def sample_groups(self, prompts: list[str]) -> tuple[list[list[int]], list[list[int]]]:
            return [self.encoder.prompt_ids(prompt) for prompt in prompts], rolled_out(prompts)

    class StockRLOO(Fixed):
        def _tokenize_prompts(self, prompts: list[str]) -> Any:
            self.prompts = prompts
            return [self.table_encoder.prompt_ids(prompt) for prompt in prompts], None, {}

        def _generate_single_turn(self, *_: Any) -> list[list[int]]:
            return rolled_out(self.prompts)

    return StockRLOO if trainer is RLOOTrainer else Fixed


def gradients_and_loss(
    trainer: type,
    policy: TransformersPolicy,
    samples: list[Sample],
    folder: Path,
    rewards: dict[str, list[float]] = REWARDS,
    **settings: Any,
) -> tuple[dict[str, torch.Tensor], float]:
    """Of all micro-batches of a step, after the policy has moved on since its rollouts: ratios are not 1."""
    given = {"batch": 2, "completions": 4, "micro_batch": 4, "max_steps": 1, "iterations": 2} | settings
    config = TrainConfig.model_validate(given)
    stock = trainer in (GRPOTrainer, RLOOTrainer)
    arguments = rloo_arguments if trainer in (RLOOTrainer, SharedPromptsRLOOTrainer) else grpo_arguments
    worth = {
        (prompt, tuple(ids)): value
        for prompt, values in rewards.items()
        for ids, value in zip(COMPLETIONS[prompt], values, strict=True)
    }

    def reward(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [worth[prompt, tuple(ids)] for prompt, ids in zip(prompts, completion_ids, strict=True)]

    made = fixed(trainer, stock)(
        model=policy.model,
        reward_funcs=reward,
        args=arguments(config, output_dir=str(folder), max_new_tokens=5, samples=2, seed=0, use_cpu=True),
        train_dataset=prompt_dataset(samples[:2], 2),
        processing_class=policy.tokenizer,
        encoder=policy.encoder,
        stop_ids=policy.stop_ids,
        batch_tokens=4096,
    )

    def move(seed: int) -> None:
        torch.manual_seed(seed)
        with torch.no_grad():
            for each in made.model.parameters():
                each.add_(torch.randn_like(each) * 0.03)

    made.model.train()
    move(1)  # away from the reference model
    batch = made._generate_and_score_completions([{"prompt": prompt} for prompt in COMPLETIONS for _ in range(4)])
    move(2)
    made.current_gradient_accumulation_steps = 2
    total = 0.0
    rows = len(batch["advantages"]) // 2
    for part in (slice(0, rows), slice(rows, 2 * rows)):
        loss = made._compute_loss(
            made.model, {key: value[part] if value.dim() else value for key, value in batch.items()}
        )
        loss.backward()
        total += loss.item()
    return {name: each.grad for name, each in made.model.named_parameters()}, total


LOSSES = get_args(TrainConfig.model_fields["loss_type"].annotation)
NAMED_HERE = ("cispo", "luspo", "vespo")


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": "cispo"},
        *(pytest.param({"loss_type": loss}, marks=pytest.mark.slow) for loss in LOSSES if loss not in NAMED_HERE),
        {"loss_type": "luspo", "importance_sampling": "sequence"},
        {"loss_type": "vespo", "kl_coefficient": 0.0},
        {"loss_type": "grpo", "importance_sampling": "sequence", "clip": 3e-4, "clip_high": 4e-4},  # GSPO
        {"loss_type": "dapo", "scale_rewards": "batch", "clip_high": 0.28},
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_gradients_are_those_of_the_stock_trainer(
    settings: dict[str, Any], tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], tmp_path: Path
) -> None:
    (ours, loss), (theirs, stock_loss) = (
        gradients_and_loss(trainer, load_tiny(tiny_llama), sum_samples, tmp_path, **settings)
        for trainer in (SharedPrefillGRPOTrainer, GRPOTrainer)
    )
    assert any(gradient.any() for gradient in theirs.values())
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-9, name
    assert loss == pytest.approx(stock_loss, rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loss", NORMALISED_BY_TOKENS)
def test_a_group_without_a_signal_is_left_out_and_nothing_changes(
    loss: str, tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], tmp_path: Path
) -> None:
    settings = {"loss_type": loss, "kl_coefficient": 0.0, "rewards": HALF_A_SIGNAL}
    (ours, _), (theirs, _) = (
        gradients_and_loss(trainer, load_tiny(tiny_llama), sum_samples, tmp_path, **settings)
        for trainer in (SharedPrefillGRPOTrainer, GRPOTrainer)
    )
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-9, name


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_rloos_gradients_are_those_of_the_stock_trainer(
    beta: float, tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], tmp_path: Path
) -> None:
    (ours, loss), (theirs, stock_loss) = (
        gradients_and_loss(trainer, load_tiny(tiny_llama), sum_samples, tmp_path, kl_coefficient=beta)
        for trainer in (SharedPromptsRLOOTrainer, RLOOTrainer)
    )
    assert any(gradient.any() for gradient in theirs.values())
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-9, name
    assert loss == pytest.approx(stock_loss, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("loss", "level"), [("luspo", None), ("luspo", "token"), ("vespo", "sequence")])
def test_combinations_without_a_meaning_are_refused(loss: str, level: str | None) -> None:
    given = {"loss_type": loss} | ({} if level is None else {"importance_sampling": level})
    with pytest.raises(ValidationError, match=f"with loss_type={loss}"):
        TrainConfig.model_validate(given)


def test_cispo_has_a_ceiling_of_its_own() -> None:
    assert TrainConfig(loss_type="cispo").highest_clip == 5.0
    assert TrainConfig(loss_type="cispo", clip_high=3.0).highest_clip == 3.0
    assert TrainConfig().highest_clip is None
