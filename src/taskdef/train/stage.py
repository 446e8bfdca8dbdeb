"""Stage 5: from the starting model and the training set to the tuned model in ``model/``, by one of the algorithms."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskdef.config import RunConfig
from taskdef.policy.load import load_policy
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Attempt, Sample, TaskDefinition
from taskdef.store import StageDirectory
from taskdef.train.dpo import train_dpo
from taskdef.train.grpo import train_grpo
from taskdef.train.job import Training, TrainingJob
from taskdef.train.ppo import train_ppo
from taskdef.train.rft import train_rft
from taskdef.train.rloo import train_rloo
from taskdef.train.sft import train_sft
from taskdef.train.stepwise import train_stepwise
from taskdef.verify.isolated import Verifier

ALGORITHMS: Mapping[str, Callable[[TrainingJob], Training]] = {
    "grpo": train_grpo,
    "ppo": train_ppo,
    "rloo": train_rloo,
    "sft": train_sft,
    "rft": train_rft,
    "dpo": train_dpo,
    "stepwise": train_stepwise,
}
"""By the values of ``train.method``."""


def train_policy(
    definition: TaskDefinition,
    samples: Sequence[Sample],
    config: RunConfig,
    *,
    start: str | Path,
    model_path: Path,
    verifier: Verifier,
    directory: StageDirectory,
    recorded: Sequence[Attempt] = (),
    progress: Progress | None = None,
) -> Training:
    """Train the model at ``start`` on the samples by ``config.train.method`` and save it to ``model_path``.

    ``recorded`` are attempts of that model at ``config.select.temperature``, which need not be made again. Goes on from
    the last checkpoint under ``directory`` where there is one. Raises BaseModelError where the starting model cannot be
    loaded, RunError where the method finds nothing to learn from.
    """
    job = TrainingJob(
        policy=load_policy(start, definition, config.policy),
        samples=samples,
        config=config,
        recorded=recorded,
        verifier=verifier,
        directory=directory,
        model_path=model_path,
        progress=progress or SilentProgress(),
    )
    return ALGORITHMS[config.train.method](job)


def summarise(training: Training, method: str) -> dict[str, Any]:
    """The figures for the manifest; means over the first and the last tenth of the steps."""
    steps = training.steps
    tenth = max(1, len(steps) // 10)
    figures: dict[str, Any] = {"method": method, "steps": len(steps), **training.counts}
    for name in ("reward", "loss", "margin"):
        values = [getattr(step, name) for step in steps]
        if any(value is not None for value in values):
            figures |= {f"{name}_first": _mean(values[:tenth]), f"{name}_last": _mean(values[-tenth:])}
    signal = [1 - step.zero_signal_share for step in steps if step.zero_signal_share is not None]
    if signal:
        figures["signal_share"] = _mean(signal)
    return figures | {"seconds_per_step": _mean([step.seconds for step in steps])}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
