"""What an algorithm is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskdef.config import RunConfig
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import Progress
from taskdef.records import Attempt, Sample, TrainingStep
from taskdef.store import StageDirectory
from taskdef.verify.isolated import Verifier


@dataclass(frozen=True)
class TrainingJob:
    """One training of one model."""

    policy: TransformersPolicy
    """The starting model; it is trained in place."""
    samples: Sequence[Sample]
    config: RunConfig
    recorded: Sequence[Attempt]
    """Attempts of the starting model that earlier stages made, at ``config.select.temperature``."""
    verifier: Verifier
    directory: StageDirectory
    """Where the log, checkpoints and attempts are kept."""
    model_path: Path
    """Where the tuned model goes."""
    progress: Progress


@dataclass(frozen=True)
class Training:
    """What a training did."""

    steps: list[TrainingStep]
    counts: dict[str, int]
    """Rollouts made, what was learned from and what was left out, by name."""
    artifacts: list[str] = field(default_factory=list)
    """Files in the stage's folder beside the log."""
