"""What the command line asks for: a plan with what was given beside it, the task, and where the comparison is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from taskdef.compare.comparison import COMPARISON_FILE, Comparison
from taskdef.compare.matrix import by_lot, dotted
from taskdef.compare.plan import Plan, load_plan, parse_plan
from taskdef.config import read_settings_file
from taskdef.definition.load import LoadedDefinition
from taskdef.definition.packs import resolve_loaded
from taskdef.definition.testset import read_human_rows, read_raw_rows
from taskdef.errors import ConfigError
from taskdef.records import Demo, DropReason, PassageSource, TaskDefinition
from taskdef.screen.screen import Screen


@dataclass(frozen=True)
class Given:
    """What may be said on the command line on top of a plan."""

    task: str | None = None
    name: str | None = None
    runs_dir: Path = Path("runs")
    profile: str | None = None
    config_file: Path | None = None
    """Settings that the plan's own come on top of."""
    settings: Mapping[str, Any] | None = None
    """Settings that come on top of the plan's, and under the variants'."""
    seeds: Sequence[int] = ()
    only: Sequence[str] = ()
    """Variants to work on; all where none is named."""
    human: Path | None = None
    test: Path | None = None
    passages: Sequence[Path] = ()


def resolve_comparison(plan: str, given: Given) -> tuple[Comparison, LoadedDefinition]:
    """A comparison that was begun, by its directory, or the one that a plan describes; nothing is created.

    Raises ConfigError, DefinitionError, TestSetError or RunError.
    """
    if (Path(plan) / COMPARISON_FILE).is_file():
        if said := [one.name for one in fields(given) if one.name != "runs_dir" and getattr(given, one.name)]:
            names = ", ".join("--" + {"config_file": "config", "settings": "set"}.get(name, name) for name in said)
            raise ConfigError(
                f"{plan}: is a comparison, which has its own task and settings; given: {names}",
                next_step="leave the options out to go on with it; a new one starts from a PLAN",
            )
        found = Comparison.open(Path(plan))
        return found, LoadedDefinition(found.matrix.definition)
    wanted = _with_given(load_plan(plan), given)
    if wanted.task is None:
        raise ConfigError(f"{plan}: names no task", next_step="give --task TASK: a task.yaml or a pack's name")
    loaded = _with_passages(resolve_loaded(wanted.task, wanted.test), wanted.passages)
    if loaded.definition.test is None:
        raise ConfigError(
            f"{wanted.task}: has no test set, and variants are compared on held-out rows",
            next_step="give JSON lines with `input` and `output`: --test FILE, or `test: FILE` in the task",
        )
    # the definition holds them now, as a comparison that is gone on with needs them
    wanted = wanted.model_copy(update={"task": None, "test": None, "passages": ()})
    demos = _human_demos(wanted, loaded.definition)
    name = given.name or f"{wanted.name}-{loaded.definition.name}"
    return Comparison.plan_out(given.runs_dir / name, wanted, loaded.definition, demos), loaded


def _with_given(plan: Plan, given: Given) -> Plan:
    below = read_settings_file(given.config_file) if given.config_file is not None else {}
    profile = given.profile or plan.profile or below.pop("profile", None)
    if unknown := [name for name in given.only if name not in plan.variants]:
        raise ConfigError(
            f"--only {unknown[0]}: is none of the plan's variants", next_step=f"choose from {', '.join(plan.variants)}"
        )
    chosen = {*given.only, plan.reference} if given.only else set(plan.variants)
    human = given.human or plan.human
    return parse_plan(
        plan.model_dump()
        | {
            "task": given.task or plan.task,
            "profile": profile,
            "settings": dotted(below) | dotted(plan.settings) | dict(given.settings or {}),
            "seeds": tuple(given.seeds) or plan.seeds,
            # absolute: a comparison is gone on with from any folder
            "human": None if human is None else human.absolute(),
            "test": given.test or plan.test,
            "passages": tuple(given.passages) or plan.passages,
            "variants": {name: variant for name, variant in plan.model_dump()["variants"].items() if name in chosen},
        },
        plan.name,
    )


def _with_passages(loaded: LoadedDefinition, passages: Sequence[Path]) -> LoadedDefinition:
    if not passages:
        return loaded
    sources = tuple(PassageSource(path=library.expanduser().resolve()) for library in passages)
    return replace(loaded, definition=loaded.definition.model_copy(update={"passages": sources}))


def _human_demos(plan: Plan, definition: TaskDefinition) -> list[Demo]:
    """Rows of the human file that may serve as demos: none that overlaps with a test row."""
    wanted = max((variant.demos or 0 for variant in plan.variants.values()), default=0)
    if plan.human is None or wanted <= len(definition.demos):
        return []
    rows = read_human_rows(definition, plan.human)
    tests = [row.input for row in read_raw_rows(definition)] if definition.test is not None else []
    screen = Screen(tests, definition.demos)
    findings = screen.sift([row.input for row in rows])
    kept = [
        Demo(input=row.input, output=row.output)
        for row, finding in zip(rows, findings, strict=True)
        if finding is None or finding[0] is DropReason.DUPLICATE
    ]
    # no more than the seeds draw; and each draws the same ones when the comparison grows by seeds or variants
    return list({demo.input: demo for seed in plan.seeds for demo in by_lot(kept, seed)[:wanted]}.values())


def read_seeds(text: str | None) -> list[int]:
    """``0,1,2`` as numbers; none for none. Raises ConfigError."""
    try:
        return [] if text is None else [int(one) for one in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text}: expected whole numbers", next_step="for instance --seeds 0,1,2") from None
