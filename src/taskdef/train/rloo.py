r"""RLOO (arXiv 2402.14740) on TRL's trainer: each completion is compared with the others of its prompt.

With R_i = r_i - beta log pi_old(y_i | x) / pi_ref(y_i | x) for each of G completions, the loss of a completion is

    -min(rho A, clip(rho, 1 - eps, 1 + eps) A),    A_i = R_i - mean of R_j over j != i,
                                                   rho = pi(y_i | x) / pi_old(y_i | x)

of whole completions, as a mean over them. TRL computes it; rollouts and log-probabilities share prompts as in GRPO. No
group is left out: the KL term in R makes advantages different from zero, and the mean is over all completions.
"""

from __future__ import annotations

from typing import Any

from trl import RLOOConfig, RLOOTrainer

from taskdef.config import TrainConfig
from taskdef.train.job import Training, TrainingJob
from taskdef.train.online import of_job, rollout_arguments, train_on_rollouts
from taskdef.train.shared_prompts import SharedPrompts


def rloo_arguments(config: TrainConfig, **named: Any) -> RLOOConfig:
    """taskdef's settings as TRL's; the named arguments are those of ``rollout_arguments``."""
    return RLOOConfig(
        **rollout_arguments(config, **named, passes=config.iterations),
        epsilon=config.clip,
        epsilon_high=config.clip_high,
    )


def train_rloo(job: TrainingJob) -> Training:
    """RLOO on the samples' inputs and labels; see ``loop.fit``."""
    return train_on_rollouts(job, SharedPromptsRLOOTrainer, rloo_arguments(job.config.train, **of_job(job)))


class SharedPromptsRLOOTrainer(SharedPrompts, RLOOTrainer):
    """TRL's RLOO trainer, fed by taskdef's rollouts."""

    def _generate(self, prompts: list[str]) -> Any:
        self._sampled = self.sample_groups(prompts)
        return super()._generate(prompts)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return self._sampled[0], None, {}

    def _generate_single_turn(self, *_prompts: Any) -> list[list[int]]:
        return self._sampled[1]
