r"""GRPO (paper section 4.1) on TRL's trainer.

For each prompt x a group of G completions y_1..G is sampled from the policy; with rewards r_i the advantage is
A_i = (r_i - mean r) / (std r + 1e-4), and the loss of a token is

    -min(rho A, clip(rho, 1 - eps, 1 + eps) A) + beta KL(pi || pi_ref),    rho = pi(y_t | x, y_<t) / pi_old(...)

TRL computes it. Three things differ from its stock trainer, none changes what is learned from a group with a signal:

- rollouts come from ``policy.sampling`` (one prefill a prompt, finished rows leave the batch);
- log-probabilities come from ``policy.shared_prefix`` (one sequence for a prompt and all its completions), where the
  model's attention allows it;
- groups whose rewards are all equal, whose advantages are all zero, are left out of the forward and backward pass,
  the reference model's included. What is left out with them is their KL term; they are counted at every step
  (``frac_reward_zero_std``).
"""

from __future__ import annotations

from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer

from taskdef.config import TrainConfig
from taskdef.train.job import Training, TrainingJob
from taskdef.train.online import of_job, rollout_arguments, train_on_rollouts
from taskdef.train.shared_prompts import SharedPrompts

_PER_ROW = (
    "prompt_ids",
    "prompt_mask",
    "completion_ids",
    "completion_mask",
    "advantages",
    "old_per_token_logps",
    "ref_per_token_logps",
)

NORMALISED_BY_TOKENS = ("dapo", "cispo", "vespo")
"""Losses that divide by the tokens of all rollouts, not by the rows that are there: rows can be left out of them."""


def grpo_arguments(config: TrainConfig, **named: Any) -> GRPOConfig:
    """taskdef's settings as TRL's; the named arguments are those of ``rollout_arguments``."""
    return GRPOConfig(
        **rollout_arguments(config, **named, passes=config.iterations),
        loss_type=config.loss_type,
        importance_sampling_level=config.importance_sampling,
        scale_rewards=config.scale_rewards,
        epsilon=config.clip,
        epsilon_high=config.highest_clip,
    )


def train_grpo(job: TrainingJob) -> Training:
    """GRPO on the samples' inputs and labels; see ``loop.fit``."""
    return train_on_rollouts(job, SharedPrefillGRPOTrainer, grpo_arguments(job.config.train, **of_job(job)))


class SharedPrefillGRPOTrainer(SharedPrompts, GRPOTrainer):
    """TRL's GRPO trainer, fed by taskdef's rollouts, without the groups that carry no signal."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.beta: float = 0.0  # set by TRL from the arguments
        super().__init__(*arguments, rollout_func=self.roll_out, **named)

    def roll_out(self, prompts: list[str], _trainer: GRPOTrainer) -> dict[str, Any]:
        """TRL's rollout protocol: each prompt stands in ``prompts`` once for every completion wanted."""
        prompt_ids, completion_ids = self.sample_groups(prompts)
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        beta, self.beta = self.beta, 0.0  # TRL would score every row under the reference model
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self.beta = beta
        if self.loss_type in NORMALISED_BY_TOKENS:
            batch = keep_signal(batch, self.args.steps_per_generation)
        if self.beta != 0.0:
            batch["ref_per_token_logps"] = self._reference_log_probabilities(batch)
        return batch

    @torch.no_grad()
    def _reference_log_probabilities(self, batch: dict[str, Any]) -> torch.Tensor:
        """Under the frozen base model: TRL's reference copy, or the policy with its adapter switched off."""
        input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        width = batch["completion_ids"].size(1)
        size = self.args.per_device_train_batch_size
        if self.ref_model is not None:
            return self._get_per_token_logps_and_entropies(self.ref_model, input_ids, mask, width, size)[0]
        with self.accelerator.unwrap_model(self.model).disable_adapter():
            return self._get_per_token_logps_and_entropies(self.model, input_ids, mask, width, size)[0]


def keep_signal(batch: dict[str, Any], parts: int) -> dict[str, Any]:
    """Drop rows whose advantage is zero, keeping a multiple of ``parts`` rows (TRL splits the batch into as many).

    Rows kept only to fill up are masked out of the loss entirely. ``num_items_in_batch`` keeps the full batch's count
    of tokens, so the token-normalised losses weigh each token as if nothing had been dropped.
    """
    advantages: torch.Tensor = batch["advantages"]
    with_signal = advantages != 0
    order = torch.argsort(with_signal.int(), descending=True, stable=True)
    kept = max(parts, -(-int(with_signal.sum()) // parts) * parts)
    rows = order[:kept]
    selected = {key: value[rows] if key in _PER_ROW else value for key, value in batch.items()}
    selected["completion_mask"] = selected["completion_mask"] * with_signal[rows].unsqueeze(1)
    longest = max(1, int(selected["completion_mask"].sum(dim=1).max()))
    for key in ("completion_ids", "completion_mask", "old_per_token_logps", "ref_per_token_logps"):
        if key in selected:
            selected[key] = selected[key][:, :longest]
    return selected
