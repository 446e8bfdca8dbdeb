"""From a plan to its cells: one run's definition and settings for each variant and seed.

Settings that cannot matter are brought to one value first, so that variants which come to the same thing are the same
run: without demos there is no pattern to switch off, and without libraries nothing to retrieve.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskdef.compare.plan import Plan, Variant
from taskdef.config import RunConfig, build_config, digest
from taskdef.errors import ConfigError, TaskdefError
from taskdef.plan import Estimate, estimate
from taskdef.records import Demo, TaskDefinition
from taskdef.synthesize.method import refuse_unfit_run

BUDGET: Mapping[str, str] = {
    "selected": "samples to train on",
    "steps": "training steps",
    "attempts": "attempts a sample",
}
"""What must be equal for a comparison to be fair, and what it is called."""


@dataclass(frozen=True)
class Cell:
    """One variant with one seed."""

    variant: str
    seed: int
    run: str
    """Folder of its run; cells that come to the same thing have one run."""
    definition: TaskDefinition
    config: RunConfig

    @property
    def name(self) -> str:
        return f"{self.variant}, seed {self.seed}"


@dataclass(frozen=True)
class Matrix:
    """All cells of a comparison, in the order in which they are worked on."""

    plan: Plan
    definition: TaskDefinition
    cells: tuple[Cell, ...]
    """All variants of the first seed, the reference first; then those of the next."""

    def of(self, variant: str) -> list[Cell]:
        """A variant's cells, in the order of the seeds."""
        return [cell for cell in self.cells if cell.variant == variant]

    def runs(self) -> list[Cell]:
        """The cells whose run is no earlier cell's."""
        seen: set[str] = set()
        return [cell for cell in self.cells if not (cell.run in seen or seen.add(cell.run))]  # type: ignore[func-returns-value]

    def title(self, variant: str) -> str:
        return self.plan.variants[variant].title or variant


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = value
    return flat


def build_matrix(plan: Plan, definition: TaskDefinition, root: Path, human_demos: Sequence[Demo] = ()) -> Matrix:
    """The cells of a plan, kept under ``root``. ``human_demos``: rows of the plan's ``human`` file as demos, where
    variants need any.

    Raises ConfigError, naming the variant, for settings that are wrong, budgets that differ from the reference's
    without ``own_budget``, and demos or human rows that there are not.
    """
    cells: list[Cell] = []
    runs: dict[str, str] = {}
    order = [plan.reference, *(name for name in plan.variants if name != plan.reference)]
    for seed in plan.seeds:
        for name in order:
            variant = plan.variants[name]
            try:
                config = _config(plan, variant, seed, root)
                own = _with_demos(definition, variant.demos, human_demos, seed)
                if config.synthesize.human.file is None:
                    refuse_unfit_run(own, config)
            except TaskdefError as error:
                raise ConfigError(f"{plan.name}: variants.{name}: {error.message}", next_step=error.next_step) from None
            config = _as_it_matters(config, own)
            content = digest([own.model_dump(mode="json"), config.model_dump(mode="json")])
            run = runs.setdefault(content, f"{name}-seed{seed}")
            cells.append(Cell(name, seed, run, own, config))
    matrix = Matrix(plan, definition, tuple(cells))
    _refuse_unequal_budgets(matrix)
    return matrix


def by_lot(demos: Sequence[Demo], seed: int) -> list[Demo]:
    """Demos in an order that the seed draws; what other demos there are does not change who comes before whom."""
    return sorted(demos, key=lambda demo: digest([seed, demo.input]))


def budget_of(cell: Cell) -> dict[str, int]:
    """The sizes that should be equal, as the settings promise them, by the keys of ``BUDGET``; attempts only where
    something is chosen by them."""
    sizes: Estimate = estimate(cell.definition, cell.config)
    budget = {"selected": sizes.selected, "steps": sizes.steps}
    return budget if cell.config.select.strategy == "all" else budget | {"attempts": cell.config.select.most_attempts}


def _config(plan: Plan, variant: Variant, seed: int, root: Path) -> RunConfig:
    common = dotted(plan.settings)
    given = dotted(variant.settings)
    for settings in (common, given):
        if "seed" in settings:
            raise ConfigError("seed: is not a setting of a comparison", next_step="list them under `seeds:`")
    if variant.human is not None:
        given = _human_settings(plan, variant, common) | given
    answers = root / "answers" / ("all" if plan.answers == "all-seeds" else f"seed{seed}")
    settings = {"instruct.cache": str(answers)} | common | given | {"seed": seed}
    # quoted: build_config reads strings as YAML, which they have been already
    texts = {key: json.dumps(value) if isinstance(value, str) else value for key, value in settings.items()}
    return build_config(profile=plan.profile, overrides=texts)


def _human_settings(plan: Plan, variant: Variant, common: dict[str, Any]) -> dict[str, Any]:
    if plan.human is None:
        raise ConfigError(
            "human: the plan names no file of human examples", next_step="`human: FILE` in the plan, or --human FILE"
        )
    reference = common | dotted(plan.variants[plan.reference].settings)
    size = reference.get("select.size") or build_config(profile=plan.profile).select.size
    rows = {"same": size, "whole": None}.get(str(variant.human), variant.human)
    return {
        "synthesize.human.file": str(plan.human.absolute()),
        "synthesize.human.rows": rows,
        "adapt.enabled": False,
        "select.strategy": "all",
        "select.rollouts": 1,  # nothing is chosen by them
    }


def _with_demos(
    definition: TaskDefinition, count: int | None, human_demos: Sequence[Demo], seed: int
) -> TaskDefinition:
    if count is None:
        return definition
    drawn = by_lot(human_demos, seed)
    demos = [*definition.demos, *drawn][:count]
    if len(demos) < count:
        raise ConfigError(
            f"demos: {count} are wanted, and there are {len(demos)}: {len(definition.demos)} of the task's own"
            + (f" and {len(drawn)} of the human file" if human_demos else ""),
            next_step="name a file with more: `human: FILE` in the plan, or --human FILE",
        )
    return definition.model_copy(update={"demos": tuple(demos)})


def _as_it_matters(config: RunConfig, definition: TaskDefinition) -> RunConfig:
    """The settings with one value for those that change nothing in this task."""
    synthesize, retrieve = config.synthesize, config.retrieve
    if not definition.demos:
        synthesize = synthesize.model_copy(update={"pattern": False})
    if not definition.passages or config.synthesize.human.file is not None:
        retrieve = retrieve.model_copy(update={"method": "none"})
    return config.model_copy(update={"synthesize": synthesize, "retrieve": retrieve})


def _refuse_unequal_budgets(matrix: Matrix) -> None:
    plan = matrix.plan
    wanted = budget_of(matrix.of(plan.reference)[0])
    for name, variant in plan.variants.items():
        if variant.own_budget:
            continue
        found = budget_of(matrix.of(name)[0])
        if other := [
            f"{BUDGET[key]} {found[key]:,} instead of {wanted[key]:,}"
            for key in BUDGET
            if key in found and key in wanted and found[key] != wanted[key]
        ]:
            raise ConfigError(
                f"{plan.name}: variants.{name}: another budget than {plan.reference}: {', '.join(other)}",
                next_step=f"make them equal, or say `own_budget: true` in {name}, and the table shows the difference",
            )
