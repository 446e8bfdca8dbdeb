"""A plan: the task, what all variants have in common, the variants, the seeds, and whom they are compared with.

    name: difficulty
    task: gsm8k                       # a task.yaml, a pack, or left to the command line
    settings: {select.size: 500}      # of all variants, as --set takes them
    seeds: [0, 1, 2]
    reference: full
    variants:
      full: {}
      easy: {settings: {select.strategy: easy}}

Read as settings are: typed, and what is not known is refused with the nearest known name.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from taskdef.errors import ConfigError
from taskdef.readable import did_you_mean, nearest

_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
_SHIPPED = resources.files("taskdef.compare") / "plans"
_FORM = "docs/experiments.md describes plans; `taskdef compare table4 --print` shows one"


class PlanPart(BaseModel):
    """Base of the parts: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(PlanPart):
    """One line of the table: what differs from the plan's common settings."""

    title: str = ""
    """What the table calls it; its name where nothing is given."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Dotted settings, on top of the plan's."""
    demos: int | None = Field(default=None, ge=0)
    """How many demos the task has in this variant: the first of its own, then rows of the plan's ``human`` file, drawn
    with the seed. All of its own, and no others, where not given."""
    human: Literal["same", "whole"] | int | None = None
    """Trains on rows of the plan's ``human`` file in place of written samples: as many as the other variants select
    (``same``), all of them, or so many."""
    own_budget: bool = False
    """Whether it may train on another number of samples, for another number of steps, or have another number of
    attempts a sample than the reference. Without this a difference is refused."""

    @field_validator("human", mode="before")
    @classmethod
    def _rows(cls, value: Any) -> Any:
        if value not in (None, "same", "whole") and (type(value) is not int or value < 1):
            raise PydanticCustomError("human", "input should be same, whole, or a whole number of at least 1")
        return value


class Plan(PlanPart):
    """A matrix of variants and seeds."""

    name: str = Field(pattern=_NAME)
    about: str = ""
    """What the comparison is to show; stands on its page."""
    task: str | None = None
    """A task.yaml or its folder, relative to the plan, or a pack's name."""
    test: Path | None = None
    """Held-out rows in place of the task's, relative to the plan."""
    passages: tuple[Path, ...] = ()
    """Libraries in place of the task's, relative to the plan."""
    human: Path | None = None
    """Examples of the task made by people, as JSON lines with the fields of the test rows; relative to the plan."""
    profile: Literal["paper", "small"] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    """Dotted settings of all variants."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    reference: str
    """The variant that all others are tested against."""
    answers: Literal["each-seed", "all-seeds"] = "each-seed"
    """Whether instructor answers are shared between the variants of a seed, or between all: seeds then write the same
    samples from the same prompts, which costs less and leaves their part of the deviation out."""
    keep_models: bool = True
    """Whether tuned models stay on disk after their evaluation."""
    variants: dict[str, Variant] = Field(min_length=2)

    @field_validator("seeds")
    @classmethod
    def _different_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value) or min(value) < 0:
            raise PydanticCustomError("seeds", "input should be different whole numbers of at least 0")
        return value


def shipped_plans() -> list[str]:
    """Names of the plans that come with the package."""
    return sorted(Path(entry.name).stem for entry in _SHIPPED.iterdir() if entry.name.endswith(".yaml"))


def plan_text(name: str) -> str:
    """A plan as YAML: a file's, or the shipped one of that name. Raises ConfigError where there is neither."""
    path = Path(name)
    try:
        if path.suffix in (".yaml", ".yml") or path.is_file():
            return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{name}: the plan cannot be read: {reason}", next_step=_FORM) from None
    if name not in shipped_plans():
        hint = did_you_mean(nearest(name, shipped_plans()))
        raise ConfigError(
            f"{name}: no such file, and no plan of that name{hint}",
            next_step=f"give a YAML file, or one of {', '.join(shipped_plans())}",
        )
    return (_SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")


def load_plan(name: str) -> Plan:
    """Read a plan from a file, or a shipped one by its name; paths in it are taken from its folder.

    Raises ConfigError with one line a fault, each naming the key.
    """
    text = plan_text(name)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}", next_step=_FORM) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected a mapping, found {type(values).__name__}", next_step=_FORM)
    plan = parse_plan(values, name)
    return _from_folder(plan, Path(name).absolute().parent) if Path(name).is_file() else plan


def parse_plan(values: dict[str, Any], place: str) -> Plan:
    """Validate a plan's content. Raises ConfigError."""
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_fault(fault, place) for fault in error.errors()), next_step=_FORM) from None
    for name in plan.variants:
        if not name or name.strip(".-_") != name or not all(one.isalnum() or one in "._-" for one in name):
            raise ConfigError(
                f"{place}: variants.{name}: a variant's name is a folder's name",
                next_step="use letters, digits, dots, dashes and underscores; `title` takes any text",
            )
    if plan.reference not in plan.variants:
        hint = did_you_mean(nearest(plan.reference, plan.variants))
        raise ConfigError(
            f"{place}: reference: {plan.reference!r} is none of the variants{hint}",
            next_step=f"name one of {', '.join(plan.variants)}",
        )
    return plan


def _fault(fault: Any, place: str) -> str:
    *parents, last = (str(part) for part in fault["loc"])
    key = ".".join([*parents, last])
    if fault["type"] != "extra_forbidden":
        given = "" if fault["type"] == "missing" else f" (given: {fault['input']!r})"
        return f"{place}: {key}: {fault['msg'].lower()}{given}"
    known = Variant.model_fields if parents[:1] == ["variants"] else Plan.model_fields
    return f"{place}: {key}: no such key{did_you_mean(nearest(last, known))}"


def _from_folder(plan: Plan, folder: Path) -> Plan:
    task = plan.task
    if task is not None and (folder / task).exists():
        task = str(folder / task)
    return plan.model_copy(
        update={
            "task": task,
            "test": None if plan.test is None else folder / plan.test,
            "human": None if plan.human is None else folder / plan.human,
            "passages": tuple(folder / library for library in plan.passages),
        }
    )
