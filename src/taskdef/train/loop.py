"""What every algorithm shares: optimizer, checkpoints and going on, the log of steps, the model it leaves.

An algorithm brings its training arguments and a function that makes its trainer; ``fit`` does the rest.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback

from taskdef.config import ScheduleConfig, TrainConfig
from taskdef.policy.load import load_model, save_checkpoint
from taskdef.policy.master_weights import MasterWeightAdamW
from taskdef.policy.memory import memory_ends, training_sizes
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import Progress
from taskdef.records import TrainingStep
from taskdef.store import StageDirectory

LOG_FILE = "log.jsonl"
CHECKPOINTS = "checkpoints"

MakeTrainer = Callable[..., Trainer]
"""Makes the algorithm's trainer from the named arguments that all trainers take."""


def fit(
    policy: TransformersPolicy,
    train: TrainConfig,
    arguments: TrainingArguments,
    make_trainer: MakeTrainer,
    *,
    directory: StageDirectory,
    model_path: Path,
    progress: Progress,
) -> list[TrainingStep]:
    """Train the policy's model (in place) and save it to ``model_path``; gives the log of all steps.

    ``arguments.output_dir`` is where checkpoints are kept meanwhile. Goes on from the last one where there is one.
    ``arguments.logging_steps`` optimizer steps are one step of the log: more than one where rollouts are learned from
    more than once, so that a step means the same for all methods. Raises OutOfMemory, with the sizes that would fit.
    """
    for name in ("transformers.trainer", "transformers.trainer_utils"):  # talk about checkpoints and file times
        logging.getLogger(name).setLevel(logging.ERROR)
    model, tokenizer = policy.model, policy.tokenizer
    checkpoints = Path(arguments.output_dir)
    done, checkpoint = last_checkpoint(checkpoints)
    updates = int(arguments.logging_steps)
    steps = [step for step in directory.read_partial(LOG_FILE, TrainingStep) if step.step <= done // updates]
    directory.write_records(LOG_FILE, steps)  # steps after the checkpoint are taken again
    if checkpoint is not None and done >= arguments.max_steps:
        # only the model was still to be saved; Trainer would take one step more
        finished = load_model(checkpoint, dtype=model.dtype, device=model.device)
        _leave_model(finished, tokenizer, model_path, checkpoints)
        return steps
    log = StepLog(directory, steps, arguments.max_steps, updates, progress)
    lora = train.adapter == "lora"
    # adapters are float32 by themselves; full bf16 weights need float32 copies behind them
    optimizer = (
        MasterWeightAdamW(model.parameters(), arguments.learning_rate, weight_decay=arguments.weight_decay)
        if model.dtype is torch.bfloat16 and not lora
        else None
    )
    micro_batch = arguments.per_device_train_batch_size
    window = micro_batch * arguments.gradient_accumulation_steps
    sizes = partial(
        training_sizes,
        model,
        micro_batch=micro_batch,
        fitting_micro_batch=largest_divisor(window, max(1, micro_batch // 2)),
        adapter=lora,
        reference=train.by_rollouts and train.kl_coefficient > 0,
    )
    with memory_ends(sizes):
        trainer = make_trainer(
            model=model,
            args=arguments,
            processing_class=tokenizer,
            peft_config=lora_config(train.lora_rank) if lora else None,
            optimizers=(optimizer, None),
            callbacks=[log],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    progress.finish()
    tuned = trainer.accelerator.unwrap_model(trainer.model)
    _leave_model(tuned.merge_and_unload() if lora else tuned, tokenizer, model_path, checkpoints)
    return log.steps


def schedule_arguments(
    train: TrainConfig, schedule: ScheduleConfig, directory: StageDirectory, *, rows: int, seed: int, use_cpu: bool
) -> dict[str, Any]:
    """The training arguments that SFT and DPO share, for TRL's config classes; ``micro_batch`` rows at once."""
    batch = min(schedule.batch, rows)
    micro_batch = largest_divisor(batch, train.micro_batch)
    return {
        "output_dir": str(directory.path / CHECKPOINTS),
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": batch // micro_batch,
        "max_steps": schedule.steps(rows),
        "learning_rate": schedule.learning_rate,
        "weight_decay": schedule.weight_decay,
        "max_length": None,  # nothing is cut: what does not fit the context never came here
        **common_arguments(train, seed=seed, use_cpu=use_cpu),
    }


def common_arguments(train: TrainConfig, *, seed: int, use_cpu: bool, updates: int = 1) -> dict[str, Any]:
    """The training arguments of every method; ``updates``: optimizer steps that are one step of taskdef's log."""
    return {
        "lr_scheduler_type": "constant",
        "max_grad_norm": train.max_gradient_norm,
        "pad_to_multiple_of": None,
        "logging_steps": updates,
        "logging_strategy": "steps",
        "save_strategy": "steps",
        "save_steps": train.save_every * updates,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
        "use_cpu": use_cpu,
        "bf16": False,  # the weights themselves are bf16 where the hardware has it
        "gradient_checkpointing": not use_cpu,
    }


def largest_divisor(total: int, limit: int) -> int:
    """The largest divisor of ``total`` that is at most ``limit``."""
    return next(size for size in range(min(limit, total), 0, -1) if total % size == 0)


def last_checkpoint(folder: Path) -> tuple[int, Path | None]:
    """Steps done and folder of the last whole checkpoint: (0, None) where there is none.

    Trainer writes straight into ``checkpoint-N`` and its state last, so a kill can leave a folder without it, or half.
    """
    numbered = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*")}
    for step, path in sorted(numbered.items(), reverse=True):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_bytes())
        except (OSError, ValueError):
            continue
        return step, path
    return 0, None


def _leave_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, model_path: Path, checkpoints: Path
) -> None:
    """Save the tuned model, then remove the checkpoints: optimizer states are several times the model's size."""
    save_checkpoint(model, tokenizer, model_path)
    removed = checkpoints.with_name(f".{CHECKPOINTS}.removed")
    shutil.rmtree(removed, ignore_errors=True)
    checkpoints.rename(removed)  # first, so that a kill leaves no checkpoint that looks whole and is not
    shutil.rmtree(removed, ignore_errors=True)


def lora_config(rank: int) -> Any:
    """LoRA on every linear layer but the head."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


_FIGURES = {
    "reward": "reward",
    "reward_std": "reward_std",
    "zero_signal_share": "frac_reward_zero_std",
    "completion_length": "completions/mean_length",
    "truncated_share": "completions/clipped_ratio",
    "entropy": "entropy",
    "kl": "kl",
    "value_loss": "value_loss",
    "explained_variance": "explained_variance",
    "clipped_share": "clipped_share",
    "chosen_log_probability": "logps/chosen",
    "rejected_log_probability": "logps/rejected",
    "chosen_reward": "rewards/chosen",
    "margin": "rewards/margins",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "gradient_norm": "grad_norm",
}
"""The fields of a TrainingStep by the names that TRL logs; a trainer logs some of them."""


class StepLog(TrainerCallback):
    """Writes every step's figures to disk as they come, and shows them."""

    def __init__(
        self, directory: StageDirectory, steps: list[TrainingStep], total: int, updates: int, progress: Progress
    ) -> None:
        self.directory = directory
        self.steps = steps
        self.total = total // updates
        self.updates = updates
        """Optimizer steps that are one step of the log."""
        self.progress = progress
        self._began = time.monotonic()

    def on_train_begin(self, *_arguments: Any, **_named: Any) -> None:
        self.progress.start("train", self.total, len(self.steps))

    def on_step_begin(self, *_arguments: Any, **_named: Any) -> None:
        self._began = time.monotonic()

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, Any] | None = None, **_named: Any) -> None:
        if not logs or "train_runtime" in logs:
            return  # the closing totals
        figures = {field: _number(logs.get(name)) for field, name in _FIGURES.items()}
        # the time since the last step of the log began; TRL's own measure is a mean over the optimizer steps
        seconds = logs["step_time"] * self.updates if "step_time" in logs else time.monotonic() - self._began
        step = TrainingStep(step=state.global_step // self.updates, seconds=seconds, **figures)
        self.steps.append(step)
        self.directory.append_records(LOG_FILE, [step])
        what, value = ("reward", step.reward) if step.reward is not None else ("loss", step.loss)
        self.progress.advance(1, f"{what} {value:.2f}" if value is not None else "")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
