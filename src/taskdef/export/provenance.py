"""What a card tells of a run: how its data came about, in counts, without anything of this machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskdef.policy.builtin import BUILTIN_HUB_ID, BUILTIN_PREFIX
from taskdef.records import Origin, PassageSource, Stage
from taskdef.report.gather import Artifacts


@dataclass(frozen=True)
class Provenance:
    """Facts about a run, ready for a card's template."""

    counts: list[tuple[str, int]]
    """What each step left, in the data's order."""
    drops: list[tuple[str, str, int]]
    """(stage, reason, count)."""
    origins: list[tuple[str, int, int]]
    """(origin, among all samples, in the training set)."""
    instructor: str
    base_model: str
    """By hub id where it has one; of a folder its name alone."""
    base_model_id: str | None
    libraries: list[str]
    mean_vote_share: float | None
    """Of the training set's labels; None where nothing was put to the vote."""
    mean_pass_rate: float | None
    """Of the training set, before training."""


def provenance(artifacts: Artifacts) -> Provenance:
    """The facts of a run whose training set stands."""
    run, definition = artifacts.run, artifacts.run.definition
    drops = Counter((drop.stage.value, drop.reason.value.replace("_", " ")) for drop in artifacts.drops)
    drafts = len(artifacts.initial) + sum(drop.stage is Stage.SYNTHESIZE for drop in artifacts.drops)
    shares = [sample.vote_share for sample in artifacts.selected if sample.vote_share is not None]
    rates = [artifacts.pass_rates[one.id].rate for one in artifacts.selected if one.id in artifacts.pass_rates]
    known = [rate for rate in rates if rate is not None]
    base_model_id = hub_id(run.config.base_model)
    return Provenance(
        counts=[
            ("passages retrieved", len(artifacts.passages)),
            ("drafts written", drafts),
            ("initial samples kept", len(artifacts.initial)),
            ("samples after difficulty adaptation", len(artifacts.adapted)),
            ("samples in the training set", len(artifacts.selected)),
        ],
        drops=[(stage, reason, count) for (stage, reason), count in drops.most_common()],
        origins=[
            (
                origin.value,
                sum(sample.origin is origin for sample in artifacts.adapted),
                sum(sample.origin is origin for sample in artifacts.selected),
            )
            for origin in Origin
        ],
        instructor=run.config.instructor.partition("@")[0],  # an endpoint's address is nobody else's business
        base_model=base_model_id or Path(run.config.base_model).name,
        base_model_id=base_model_id,
        libraries=[_library(source) for source in definition.passages]
        or [Path(str(library["source"])).name for library in artifacts.retrieval.get("libraries", [])],
        mean_vote_share=sum(shares) / len(shares) if shares else None,
        mean_pass_rate=sum(known) / len(known) if known else None,
    )


def hub_id(model: str) -> str | None:
    """The hub's name of a model; None for a folder."""
    if model.startswith(BUILTIN_PREFIX):
        return BUILTIN_HUB_ID
    is_id = model.count("/") == 1 and not model.startswith((".", "/", "~")) and not Path(model).exists()
    return model if is_id else None


def test_source_name(artifacts: Artifacts) -> str:
    """What the held-out rows are called: the data set's id, or the file's name."""
    source = artifacts.run.definition.test
    if source is None:
        return "held-out rows"
    if source.path is not None:
        return source.path.name
    return " ".join(part for part in (source.hub, source.subset, source.split) if part)


def evaluated(artifacts: Artifacts) -> list[dict[str, Any]]:
    """Each evaluated model with its accuracies, as ``evaluation.json`` has them; empty before the evaluation."""
    return [{"name": name} | result for name, result in artifacts.evaluation.get("models", {}).items()]


def _library(source: PassageSource) -> str:
    if source.hub is not None and not Path(source.hub).exists():
        return f"the data set {source.hub}{f' ({source.subset})' if source.subset else ''}"
    return f"local files: {Path(source.path or source.hub or '').name}"
