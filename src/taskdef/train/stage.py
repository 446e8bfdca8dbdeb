"""Stage 5: from the starting model and the training set to the tuned model in ``model/``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskdef.config import RunConfig
from taskdef.policy.load import load_policy
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Sample, TaskDefinition, TrainingStep
from taskdef.store import StageDirectory
from taskdef.train.grpo import train_grpo
from taskdef.verify.isolated import Verifier


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
    return train_grpo(
        load_policy(start, definition, config.policy),
        samples,
        config,
        verifier=verifier,
        directory=directory,
        model_path=model_path,
        progress=progress or SilentProgress(),
    )


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
