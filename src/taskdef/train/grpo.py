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

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from taskdef.config import TrainConfig
from taskdef.policy.prompting import PromptEncoder
from taskdef.policy.sampling import sample_in_batches
from taskdef.policy.shared_prefix import pack_groups, packed_log_probabilities, supports_shared_prefix
from taskdef.records import Sample
from taskdef.train.job import Training, TrainingJob
from taskdef.train.loop import CHECKPOINTS, fit, largest_divisor
from taskdef.train.rewards import VerdictReward

_PER_ROW = (
    "prompt_ids",
    "prompt_mask",
    "completion_ids",
    "completion_mask",
    "advantages",
    "old_per_token_logps",
    "ref_per_token_logps",
)


MOST_PACKED_POSITIONS = 4096
"""Longest packed group. The mask and the attention grow with its square: many long completions are cheaper apart."""


def grpo_arguments(
    config: TrainConfig, *, output_dir: str, max_new_tokens: int, samples: int, seed: int, use_cpu: bool
) -> GRPOConfig:
    """taskdef's settings as TRL's; one generation an optimizer step, so old and new policy are equal."""
    sequences = config.batch * config.completions
    micro_batch = largest_divisor(sequences, config.micro_batch)
    return GRPOConfig(
        output_dir=output_dir,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=sequences // micro_batch,
        num_generations=config.completions,
        max_steps=config.steps(samples),
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=config.max_gradient_norm,
        max_completion_length=max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        beta=config.kl_coefficient,
        loss_type=config.loss_type,
        pad_to_multiple_of=None,
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        use_cpu=use_cpu,
        bf16=False,  # the weights themselves are bf16 where the hardware has it
        gradient_checkpointing=not use_cpu,
    )


def prompt_dataset(samples: Sequence[Sample], batch: int) -> Any:
    """The training inputs as TRL wants them; repeated where there are fewer than one step takes."""
    from datasets import Dataset

    rows = [{"prompt": sample.input} for sample in samples]
    return Dataset.from_list(rows * -(-batch // len(rows)))


def train_grpo(job: TrainingJob) -> Training:
    """GRPO on the samples' inputs and labels; see ``loop.fit``."""
    config, policy, train = job.config, job.policy, job.config.train

    def trainer(**common: Any) -> SharedPrefillGRPOTrainer:
        made = SharedPrefillGRPOTrainer(
            **common,
            reward_funcs=VerdictReward(
                {sample.input: sample.answer for sample in job.samples},
                format_reward=train.format_reward,
                verifier=job.verifier,
                stop_ids=policy.stop_ids,
            ),
            train_dataset=prompt_dataset(job.samples, train.batch),
            encoder=policy.encoder,
            stop_ids=policy.stop_ids,
            batch_tokens=config.policy.batch_tokens,
        )
        if not made.shares_prefixes:
            job.progress.line("this model's attention cannot share prompts between completions: plain forward passes")
        return made

    arguments = grpo_arguments(
        train,
        output_dir=str(job.directory.path / CHECKPOINTS),
        max_new_tokens=config.policy.max_new_tokens,
        samples=len(job.samples),
        seed=config.seed,
        use_cpu=policy.model.device.type == "cpu",
    )
    steps = fit(
        policy,
        train,
        arguments,
        trainer,
        directory=job.directory,
        model_path=job.model_path,
        progress=job.progress,
    )
    return Training(steps, {"rollouts": len(steps) * train.batch * train.completions})


class EpochSampler(RepeatSampler):
    """TRL's sampler, but an epoch's order follows from seed and epoch alone.

    So a run that goes on from a checkpoint meets the prompts that an undisturbed one would have met.
    """

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer before each epoch."""
        self.generator.manual_seed(self.seed * 1_000_003 + epoch)


class SharedPrefillGRPOTrainer(GRPOTrainer):
    """TRL's GRPO trainer, fed by taskdef's rollouts, without the groups that carry no signal."""

    def __init__(
        self,
        *arguments: Any,
        encoder: PromptEncoder,
        stop_ids: frozenset[int],
        batch_tokens: int,
        **named: Any,
    ) -> None:
        self.beta: float = 0.0  # set by TRL from the arguments
        self.encoder = encoder
        self.stop_ids = stop_ids
        self.batch_tokens = batch_tokens
        super().__init__(*arguments, rollout_func=self.roll_out, **named)
        model = self.accelerator.unwrap_model(self.model)
        # the packed forward pass calls the decoder inside the model, past the wrapper that syncs gradients
        self.shares_prefixes = self.accelerator.num_processes == 1 and supports_shared_prefix(model)

    def roll_out(self, prompts: list[str], _trainer: GRPOTrainer) -> dict[str, Any]:
        """TRL's rollout protocol: each prompt stands in ``prompts`` once for every completion wanted."""
        groups = [(prompt, len(list(same))) for prompt, same in groupby(prompts)]
        count = self.num_generations
        inputs = [prompt for prompt, times in groups for _ in range(times // count)]
        prompt_ids = [self.encoder.prompt_ids(sample_input) for sample_input in inputs]
        model = self.accelerator.unwrap_model(self.model)
        generator = torch.Generator(device=model.device)
        # the step is part of the seed, so a run resumed from a checkpoint draws what it would have drawn
        generator.manual_seed(self.args.seed * 1_000_003 + self.state.global_step)
        was_training = model.training
        model.eval()
        sampled = sample_in_batches(
            model,
            prompt_ids,
            count=count,
            max_new_tokens=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            stop_ids=self.stop_ids,
            pad_id=int(self.processing_class.pad_token_id),
            generator=generator,
            batch_tokens=self.batch_tokens,
        )
        model.train(was_training)
        return {
            "prompt_ids": [ids for ids in prompt_ids for _ in range(count)],
            "completion_ids": [ids for group in sampled for ids in group],
            "logprobs": None,
        }

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        stock = super()._get_train_sampler(dataset)
        return EpochSampler(
            stock.data_source, stock.mini_repeat_count, stock.batch_size, stock.repeat_count, stock.shuffle, stock.seed
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        beta, self.beta = self.beta, 0.0  # TRL would score every row under the reference model
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self.beta = beta
        if self.loss_type == "dapo":  # the one loss normalised by the batch's tokens, not by the rows that are there
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

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **named: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        packed_positions = input_ids.size(1) + (self.num_generations - 1) * logits_to_keep
        if not self.shares_prefixes or packed_positions > MOST_PACKED_POSITIONS:
            stock: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
            stock = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, **named
            )
            return stock
        unwrapped = self.accelerator.unwrap_model(model)
        log_probabilities: list[torch.Tensor] = []
        entropies: list[torch.Tensor] = []
        for start in range(0, len(input_ids), batch_size or len(input_ids)):
            part = slice(start, start + (batch_size or len(input_ids)))
            with self.accelerator.autocast():
                log_probability, entropy = grouped_log_probabilities(
                    unwrapped, input_ids[part], attention_mask[part], logits_to_keep, self.temperature
                )
            log_probabilities.append(log_probability)
            entropies.append(entropy)
        return torch.cat(log_probabilities), torch.cat(entropies), None


def grouped_log_probabilities(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_width: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies, rows x ``completion_width``, of padded rows, sharing equal prompts."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    completions = []
    for row, (ids, mask) in enumerate(zip(input_ids.tolist(), attention_mask.bool().tolist(), strict=True)):
        kept = [token if seen else None for token, seen in zip(ids, mask, strict=True)]
        prompt = tuple(token for token in kept[:-completion_width] if token is not None)
        by_prompt.setdefault(prompt, []).append(row)
        completions.append([token for token in kept[-completion_width:] if token is not None])
    packed = pack_groups(
        list(by_prompt), [[completions[row] for row in rows] for rows in by_prompt.values()], width=completion_width
    )
    order = torch.tensor([row for rows in by_prompt.values() for row in rows], device=input_ids.device)
    place = torch.argsort(order)
    grids = packed_log_probabilities(model, packed, temperature=temperature, shape=(len(completions), completion_width))
    return grids[0][place], grids[1][place]


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
