r"""PPO (arXiv 1707.06347), the paper's second algorithm: every token has an advantage of its own.

With the policy pi_old that wrote a completion y of T tokens, its values V_t (of the state before token t), the
verdict's reward R and the starting model pi_ref:

    r_t   = -beta (log pi_old(y_t) - log pi_ref(y_t)) + [t = T] R             KL in the reward
    A_t   = d_t + gamma lambda A_{t+1},   d_t = r_t + gamma V_{t+1} - V_t     generalized advantages (arXiv 1506.02438)
    G_t   = A_t + V_t                                                         what values are to become
    L_pi  = -min(rho_t A'_t, clip(rho_t, 1 - eps, 1 + eps) A'_t)              rho_t = pi(y_t) / pi_old(y_t)
    L_V   = 1/2 max((V - G_t)^2, (clip(V, V_t - eps_V, V_t + eps_V) - G_t)^2)

with V_{T+1} = 0 and A' the advantages whitened over all tokens of the step's rollouts. Both losses are means over
tokens; each mini-batch counts as its share of the rollouts. The rollouts are learned from several times.

The base is TRL's GRPO trainer, for its sampler, its buffer of rollouts, the reference model and the log; nothing of its
advantages or losses is left. Values are a head on the policy's hidden states (``value_head``). Left out: an entropy
bonus, an adaptive KL coefficient, early stopping of a step by its KL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig

from taskdef.config import PpoConfig, TrainConfig
from taskdef.errors import BaseModelError
from taskdef.policy.shared_prefix import left_out_of_head_logits, to_grid, token_log_probabilities
from taskdef.train.grpo import SharedPrefillGRPOTrainer
from taskdef.train.job import Training, TrainingJob
from taskdef.train.online import of_job, rollout_arguments, train_on_rollouts
from taskdef.train.shared_prompts import completion_states
from taskdef.train.value_head import ValueHead


def rewards_with_kl(
    scores: torch.Tensor, log_probs: torch.Tensor, ref_log_probs: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """r_t, rows x tokens, of ``scores`` R (one a row); ``mask`` is 1 on the completions' tokens, which come first."""
    rewards = -beta * (log_probs - ref_log_probs) * mask
    lengths = mask.sum(dim=1).long()
    rows = lengths.nonzero()[:, 0]
    rewards[rows, lengths[rows] - 1] += scores[rows]
    return rewards


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, gamma: float, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A_t and G_t, rows x tokens; zero where ``mask`` is."""
    advantages = torch.zeros_like(rewards)
    advantage = next_value = rewards.new_zeros(len(rewards))
    for token in reversed(range(rewards.size(1))):
        seen = mask[:, token]
        error = rewards[:, token] + gamma * next_value - values[:, token]
        advantage = (error + gamma * gae_lambda * advantage) * seen
        next_value = values[:, token] * seen
        advantages[:, token] = advantage
    return advantages, (advantages + values) * mask


def whiten(advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 over the tokens under ``mask``; zeros where there are fewer than two."""
    kept = advantages[mask.bool()]
    if len(kept) < 2:
        return torch.zeros_like(advantages)
    return (advantages - kept.mean()) * torch.rsqrt(kept.var() + 1e-8) * mask


def policy_losses(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """L_pi of each token, and 1 where it was clipped."""
    ratio = torch.exp((log_probs - old_log_probs).clamp(-20, 20))
    plain, clipped = -ratio * advantages, -ratio.clamp(1 - clip, 1 + clip) * advantages
    return torch.maximum(plain, clipped), (clipped > plain).float()


def value_losses(values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, clip: float) -> torch.Tensor:
    """L_V of each token."""
    near = torch.clamp(values, old_values - clip, old_values + clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1 - Var(G - V) / Var(G) over tokens; NaN where all returns are equal."""
    of_returns, of_errors = returns[mask.bool()], (returns - values)[mask.bool()]
    if len(of_returns) < 2 or of_returns.var() == 0:
        return float("nan")
    return float(1 - of_errors.var() / of_returns.var())


def ppo_arguments(config: TrainConfig, **named: Any) -> GRPOConfig:
    """taskdef's settings as TRL's; the named arguments are those of ``rollout_arguments``."""
    ppo = config.ppo
    return GRPOConfig(**rollout_arguments(config, **named, passes=ppo.passes, mini_batches=ppo.mini_batches))


def train_ppo(job: TrainingJob) -> Training:
    """PPO on the samples' inputs and labels; see ``loop.fit``. Raises BaseModelError for a model with scaled logits."""
    train = job.config.train
    # log-probabilities come from the head's output here, which ``token_log_probabilities`` can cap but not scale
    if scaled := left_out_of_head_logits(job.policy.model):
        settings = ", ".join(f"{name} {value}" for name, value in scaled.items())
        raise BaseModelError(
            f"{job.policy.name}: its logits are scaled ({settings}), and PPO would learn from others",
            next_step="--set train.method=grpo, which leaves the logits to the model",
        )
    return train_on_rollouts(job, PPOTrainer, ppo_arguments(train, **of_job(job)), settings=train.ppo)


class PPOTrainer(SharedPrefillGRPOTrainer):
    """GRPO's rollouts and reference model; PPO's advantages, losses and value head."""

    def __init__(self, *arguments: Any, settings: PpoConfig, **named: Any) -> None:
        self.settings = settings
        super().__init__(*arguments, **named)
        model = self.accelerator.unwrap_model(self.model)
        self.value_head = ValueHead(
            model.config.get_text_config().hidden_size,
            learning_rate=settings.value_learning_rate,
            into_policy=settings.value_into_policy,
            device=model.device,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """The step's rollouts with their advantages, and the policy's figures at the time."""
        prompts = [row["prompt"] for row in inputs]
        prompt_ids, completion_ids = self.sample_groups(prompts)
        texts = self.processing_class.batch_decode(completion_ids, skip_special_tokens=True)
        rewards = self._calculate_rewards(inputs, prompts, texts, completion_ids)[:, 0]
        device = self.accelerator.device
        prompt_grid, prompt_mask = padded(prompt_ids, left=True, device=device)
        completion_grid, completion_mask = padded(completion_ids, left=False, device=device)
        ended = torch.tensor([ids[-1] in self.stop_ids for ids in completion_ids])
        self._note_rollouts(rewards, completion_mask, ended)
        scored = ~rewards.isnan()  # where the verifier failed there is nothing to learn, not even a reward of 0
        completion_mask = completion_mask * scored[:, None]
        batch = {
            "prompt_ids": prompt_grid,
            "prompt_mask": prompt_mask,
            "completion_ids": completion_grid,
            "completion_mask": completion_mask,
        }
        mask = completion_mask.float()
        with torch.no_grad():
            log_probs, _, values = self._log_probs_and_values(batch)
            ref_log_probs = self._reference_log_probabilities(batch) if self.beta else log_probs
        token_rewards = rewards_with_kl(rewards, log_probs, ref_log_probs, mask, self.beta)
        advantages, returns = generalized_advantages(
            token_rewards, values, mask, gamma=self.settings.gamma, gae_lambda=self.settings.gae_lambda
        )
        tokens = mask.sum().clamp(min=1)
        self._note("kl", float(((log_probs - ref_log_probs) * mask).sum() / tokens))
        self._note("explained_variance", explained_variance(values, returns, mask))
        return batch | {
            "old_log_probs": log_probs,
            "old_values": values,
            "advantages": whiten(advantages, mask),
            "returns": returns,
            "num_items_in_batch": tokens,
        }

    def _compute_loss(self, _model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        mask = inputs["completion_mask"].float()
        log_probs, entropies, values = self._log_probs_and_values(inputs)
        of_policy, clipped = policy_losses(log_probs, inputs["old_log_probs"], inputs["advantages"], self.settings.clip)
        of_values = value_losses(values, inputs["old_values"], inputs["returns"], self.settings.value_clip)
        # a mini-batch is an accumulation window; the buffer holds all rollouts in steps_per_generation parts
        share = self.current_gradient_accumulation_steps / self.args.steps_per_generation
        self._note("entropy", _mean(entropies, mask))
        self._note("clipped_share", _mean(clipped, mask))
        self._note("value_loss", _mean(of_values.detach(), mask))
        loss: torch.Tensor = ((of_policy + of_values) * mask).sum() / (inputs["num_items_in_batch"] * share)
        return loss

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """One micro-batch; the value head takes its own step where the model takes one."""
        loss: torch.Tensor = super().training_step(*arguments, **named)
        if self.accelerator.sync_gradients:
            self.value_head.learn()
        return loss

    def _log_probs_and_values(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """log pi(y_t), entropies and V_t, rows x tokens, in parts of a micro-batch; zero where no token is."""
        input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        width, size = batch["completion_ids"].size(1), self.args.per_device_train_batch_size
        model, shared = self.accelerator.unwrap_model(self.model), self.packs(input_ids, width)
        grids = []
        for start in range(0, len(input_ids), size):
            rows = slice(start, start + size)
            with self.accelerator.autocast():
                states, target, slot = completion_states(model, input_ids[rows], seen[rows], width, shared=shared)
                log_probs, entropies = token_log_probabilities(model, states, target, temperature=self.temperature)
            shape = (len(input_ids[rows]), width)
            figures = (log_probs, entropies, self.value_head(states))
            grids.append([to_grid(figure.float(), slot, shape) for figure in figures])
        of_log_probs, of_entropies, of_values = (torch.cat(parts) for parts in zip(*grids, strict=True))
        return of_log_probs, of_entropies, of_values

    def _note(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _note_rollouts(self, rewards: torch.Tensor, mask: torch.Tensor, ended: torch.Tensor) -> None:
        known = rewards[~rewards.isnan()]
        self._note("reward", float(known.mean()))
        self._note("reward_std", float(known.std()))
        self._note("completions/mean_length", float(mask.sum(dim=1).float().mean()))
        self._note("completions/clipped_ratio", float((~ended).float().mean()))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        self.value_head.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.value_head.load(Path(checkpoint))


def padded(rows: list[list[int]], *, left: bool, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids in a grid, filled up with zeros on one side, and 1 where a token is."""
    width = max(map(len, rows))
    ids = [[0] * (width - len(row)) + row if left else row + [0] * (width - len(row)) for row in rows]
    seen = [
        [0] * (width - len(row)) + [1] * len(row) if left else [1] * len(row) + [0] * (width - len(row)) for row in rows
    ]
    return torch.tensor(ids, device=device), torch.tensor(seen, device=device)


def _mean(figures: torch.Tensor, mask: torch.Tensor) -> float:
    return float((figures * mask).sum() / mask.sum()) if mask.any() else float("nan")
