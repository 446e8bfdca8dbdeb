"""Training on rollouts: what GRPO, PPO and RLOO are given, and how they are run. A step makes its rollouts once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainingArguments

from taskdef.config import TrainConfig
from taskdef.records import Sample
from taskdef.train.job import Training, TrainingJob
from taskdef.train.loop import CHECKPOINTS, common_arguments, fit, largest_divisor
from taskdef.train.rewards import VerdictReward


def rollout_arguments(
    config: TrainConfig,
    *,
    output_dir: str,
    max_new_tokens: int,
    samples: int,
    seed: int,
    use_cpu: bool,
    passes: int = 1,
    mini_batches: int = 1,
) -> dict[str, Any]:
    """The training arguments that all methods with rollouts share, for TRL's config classes.

    ``config.batch`` x ``config.completions`` rollouts are made at once and learned from ``passes`` times, in
    ``mini_batches`` optimizer steps each time (or fewer, where they would not be of equal size). Together these are one
    step of taskdef's log.
    """
    rollouts = config.batch * config.completions
    window = rollouts // largest_divisor(rollouts, mini_batches)
    micro_batch = largest_divisor(window, config.micro_batch)
    updates = passes * rollouts // window
    return {
        "output_dir": output_dir,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": window // micro_batch,
        "steps_per_generation": rollouts // micro_batch,
        "num_iterations": passes,
        "num_generations": config.completions,
        "max_steps": config.steps(samples) * updates,
        "learning_rate": config.learning_rate,
        "max_completion_length": max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "beta": config.kl_coefficient,
        **common_arguments(config, seed=seed, use_cpu=use_cpu, updates=updates),
    }


def prompt_dataset(samples: Sequence[Sample], batch: int) -> Any:
    """The training inputs as TRL wants them; repeated where there are fewer than one step takes."""
    from datasets import Dataset

    rows = [{"prompt": sample.input} for sample in samples]
    return Dataset.from_list(rows * -(-batch // len(rows)))


def of_job(job: TrainingJob) -> dict[str, Any]:
    """The named arguments of ``rollout_arguments`` that a training has."""
    return {
        "output_dir": str(job.directory.path / CHECKPOINTS),
        "max_new_tokens": job.config.policy.max_new_tokens,
        "samples": len(job.samples),
        "seed": job.config.seed,
        "use_cpu": job.policy.model.device.type == "cpu",
    }


def train_on_rollouts(
    job: TrainingJob, make_trainer: Callable[..., Any], arguments: TrainingArguments, **own: Any
) -> Training:
    """Train on the samples' inputs and labels with a trainer that has ``SharedPrompts``; see ``loop.fit``.

    ``own`` are the named arguments that this trainer alone takes.
    """
    config, policy, train = job.config, job.policy, job.config.train

    def trainer(**common: Any) -> Any:
        made = make_trainer(
            **common,
            **own,
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
