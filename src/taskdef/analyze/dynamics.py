"""How runs trained, side by side: the figures that they logged, at the same steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskdef.errors import RunError
from taskdef.evaluate.records import Accuracy
from taskdef.report.gather import figures, gather
from taskdef.store import RunDirectory

LOGGED = {
    "reward": "Mean reward",
    "zero_signal_share": "Groups without signal",
    "completion_length": "Completion length (tokens)",
    "entropy": "Entropy (nats)",
    "kl": "KL from the start (nats)",
    "loss": "Loss",
    "margin": "DPO margin",
}
"""What is compared, where at least one of the runs logged it."""


@dataclass(frozen=True)
class Dynamics:
    """One run's training."""

    name: str
    method: str
    curves: dict[str, list[tuple[float, float]]]
    """(step, value) by logged figure; a figure that was not logged has none."""
    accuracy: dict[str, Accuracy]
    """Held-out accuracy, strict, by model; empty before the evaluation."""


def read_dynamics(runs: Sequence[RunDirectory]) -> list[Dynamics]:
    """Each run's, in their order. Raises RunError where one has logged no step of training."""
    names = distinct_names([run.path for run in runs])
    found = []
    for name, run in zip(names, runs, strict=True):
        artifacts = gather(run)
        if not artifacts.log:
            raise RunError(f"{run.path}: has logged no step of training", next_step=f"taskdef train {run.quoted_path}")
        models = artifacts.evaluation.get("models", {})
        found.append(
            Dynamics(
                name=name,
                method=run.config.train.method,
                curves={key: points for key in LOGGED if (points := figures(artifacts.log, key))},
                accuracy={model: Accuracy.model_validate(result["strict"]) for model, result in models.items()},
            )
        )
    return found


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many of each as tell it from all others."""
    resolved = [path.resolve() for path in paths]
    names = []
    for path in resolved:
        length = 1
        while length < len(path.parts) and any(
            other.parts[-length:] == path.parts[-length:] for other in resolved if other != path
        ):
            length += 1
        names.append("/".join(path.parts[-length:]))
    return names


def mean_of_last_tenth(points: Sequence[tuple[float, float]]) -> float:
    """What a curve ends at, without the noise of its last step. Raises ValueError for no points."""
    last = [value for _, value in points[-max(1, len(points) // 10) :]]
    if not last:
        raise ValueError("a curve without points ends nowhere")
    return sum(last) / len(last)
