"""Stage 5: from the starting model and the training set to the tuned model in ``model/``."""

from __future__ import annotations

import json
import logging
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback

from taskdef.config import RunConfig
from taskdef.policy.load import load_model, load_tokenizer, pick_device, pick_dtype, save_checkpoint
from taskdef.policy.master_weights import MasterWeightAdamW
from taskdef.policy.prompting import PromptEncoder
from taskdef.policy.transformers_policy import stop_token_ids
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Sample, TaskDefinition, TrainingStep
from taskdef.store import StageDirectory
from taskdef.train.grpo import SharedPrefillGRPOTrainer, grpo_arguments
from taskdef.train.rewards import VerdictReward
from taskdef.verify.isolated import Verifier

LOG_FILE = "log.jsonl"
CHECKPOINTS = "checkpoints"


def train_policy(
    definition: TaskDefinition,
    samples: Sequence[Sample],
    config: RunConfig,
    *,
    start: str | Path,
    model_path: Path,
    verifier: Verifier,
    directory: StageDirectory,
    progress: Progress | None = None,
) -> list[TrainingStep]:
    """Train the model at ``start`` on the samples and save it to ``model_path``; gives the log of all steps.

    Goes on from the last checkpoint under ``directory`` where there is one. Raises BaseModelError where the starting
    model cannot be loaded.
    """
    progress = progress or SilentProgress()
    for name in ("transformers.trainer", "transformers.trainer_utils"):  # talk about checkpoints and file times
        logging.getLogger(name).setLevel(logging.ERROR)
    device = pick_device(config.policy)
    tokenizer = load_tokenizer(start)
    lora = config.train.adapter == "lora"
    bf16_weights = pick_dtype(config.policy, device) is torch.bfloat16
    model = load_model(start, dtype=torch.bfloat16 if bf16_weights else torch.float32, device=device)
    encoder = PromptEncoder(definition, tokenizer, config.policy.prompt)
    stop_ids = stop_token_ids(model, tokenizer)
    arguments = grpo_arguments(
        config.train,
        output_dir=str(directory.path / CHECKPOINTS),
        max_new_tokens=config.policy.max_new_tokens,
        samples=len(samples),
        seed=config.seed,
        use_cpu=device.type == "cpu",
    )
    checkpoints = Path(arguments.output_dir)
    done, checkpoint = last_checkpoint(checkpoints)
    steps = [step for step in directory.read_partial(LOG_FILE, TrainingStep) if step.step <= done]
    directory.write_records(LOG_FILE, steps)  # steps after the checkpoint are taken again
    if checkpoint is not None and done >= arguments.max_steps:
        # only the model was still to be saved; Trainer would take one step more
        finished = load_model(checkpoint, dtype=model.dtype, device=device)
        _leave_model(finished, tokenizer, model_path, checkpoints)
        return steps
    log = StepLog(directory, steps, arguments.max_steps, progress)
    trainer = SharedPrefillGRPOTrainer(
        model=model,
        reward_funcs=VerdictReward(
            {sample.input: sample.answer for sample in samples},
            format_reward=config.train.format_reward,
            verifier=verifier,
            stop_ids=stop_ids,
        ),
        args=arguments,
        train_dataset=prompt_dataset(samples, config.train.batch),
        processing_class=tokenizer,
        peft_config=lora_config(config.train.lora_rank) if lora else None,
        # adapters are float32 by themselves; full bf16 weights need float32 copies behind them
        optimizers=(
            MasterWeightAdamW(model.parameters(), config.train.learning_rate, weight_decay=0.0)
            if bf16_weights and not lora
            else None,
            None,
        ),
        callbacks=[log],
        encoder=encoder,
        stop_ids=stop_ids,
        batch_tokens=config.policy.batch_tokens,
    )
    trainer.remove_callback(PrinterCallback)
    if not trainer.shares_prefixes:
        progress.line("this model's attention cannot share prompts between completions: plain forward passes")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    progress.finish()
    tuned = trainer.accelerator.unwrap_model(trainer.model)
    _leave_model(tuned.merge_and_unload() if lora else tuned, tokenizer, model_path, checkpoints)
    return log.steps


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


def summarise(steps: Sequence[TrainingStep]) -> dict[str, Any]:
    """The figures for the manifest; means over the first and the last tenth of the steps."""
    tenth = max(1, len(steps) // 10)
    signal = [1 - step.zero_signal_share for step in steps if step.zero_signal_share is not None]
    return {
        "steps": len(steps),
        "reward_first": _mean([step.reward for step in steps[:tenth]]),
        "reward_last": _mean([step.reward for step in steps[-tenth:]]),
        "signal_share": _mean(signal),
        "seconds_per_step": _mean([step.seconds for step in steps]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def prompt_dataset(samples: Sequence[Sample], batch: int) -> Any:
    """The training inputs as TRL wants them; repeated where there are fewer than one step takes."""
    from datasets import Dataset

    rows = [{"prompt": sample.input} for sample in samples]
    return Dataset.from_list(rows * -(-batch // len(rows)))


def lora_config(rank: int) -> Any:
    """LoRA on every linear layer but the head."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


class StepLog(TrainerCallback):
    """Writes every step's figures to disk as they come, and shows them."""

    def __init__(self, directory: StageDirectory, steps: list[TrainingStep], total: int, progress: Progress) -> None:
        self.directory = directory
        self.steps = steps
        self.total = total
        self.progress = progress

    def on_train_begin(self, *_arguments: Any, **_named: Any) -> None:
        self.progress.start("train", self.total, len(self.steps))

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, Any] | None = None, **_named: Any) -> None:
        if not logs or "reward" not in logs:
            return  # the closing totals
        step = TrainingStep(
            step=state.global_step,
            reward=logs["reward"],
            reward_std=logs.get("reward_std"),
            zero_signal_share=logs.get("frac_reward_zero_std"),
            completion_length=logs.get("completions/mean_length"),
            truncated_share=logs.get("completions/clipped_ratio"),
            entropy=logs.get("entropy"),
            kl=logs.get("kl"),
            loss=_number(logs.get("loss")),
            learning_rate=_number(logs.get("learning_rate")),
            gradient_norm=_number(logs.get("grad_norm")),
            seconds=logs.get("step_time"),
        )
        self.steps.append(step)
        self.directory.append_records(LOG_FILE, [step])
        self.progress.advance(1, f"reward {step.reward:.2f}" if step.reward is not None else "")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
