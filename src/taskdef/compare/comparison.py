"""A comparison on disk: its plan, a run for each cell, the answers they share, a journal, and the pages at the end.

runs/NAME/
  comparison.yaml       the plan as it was resolved, and the task
  VARIANT-seedN/        an ordinary run each: taskdef show, taskdef report
  answers/              what instructors answered, shared between the runs
  journal.jsonl         which stage was computed, or taken over from which run
  comparison.html, comparison.md, comparison.json
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from taskdef import __version__
from taskdef.compare.matrix import Cell, Matrix, build_matrix, dotted
from taskdef.compare.plan import Plan, parse_plan
from taskdef.errors import ConfigError, RunError
from taskdef.records import Demo, Record, Stage, TaskDefinition
from taskdef.store import RUN_FILE, RunDirectory, first_stage, lock_folder, write_atomically

COMPARISON_FILE = "comparison.yaml"
JOURNAL_FILE = "journal.jsonl"


class Entry(Record):
    """One line of the journal."""

    at: str
    """UTC, ISO 8601."""
    process: int
    run: str
    stage: Stage
    event: Literal["begun", "computed", "shared", "failed"]
    source: str = ""
    """``shared``: the run that it was taken over from; ``begun``: those whose attempts were taken over."""
    seconds: float | None = None
    attempts: int = 0
    """``begun``: attempts of the base model that were taken over."""
    message: str = ""
    """``failed``: why."""


class Comparison:
    """The folder of a comparison, and what is in it so far."""

    def __init__(self, path: Path, matrix: Matrix, human_demos: Sequence[Demo] = ()) -> None:
        self.path = path
        self.matrix = matrix
        self.plan = matrix.plan
        self.human_demos = tuple(human_demos)

    @classmethod
    def plan_out(
        cls, path: Path, plan: Plan, definition: TaskDefinition, human_demos: Sequence[Demo] = ()
    ) -> Comparison:
        """A comparison that ``begin`` writes down. Raises ConfigError for a plan that cannot be worked on."""
        return cls(path, build_matrix(plan, definition, path, human_demos), human_demos)

    @property
    def is_new(self) -> bool:
        return not (self.path / COMPARISON_FILE).exists()

    def begin(self) -> None:
        """Write the plan down, or go on with the comparison that stands there, which may have fewer variants and seeds.

        Raises ConfigError where anything else differs from the one begun.
        """
        if not self.is_new:
            Comparison.open(self.path).refuse_changes(self)
        elif self.path.exists() and any(self.path.iterdir()):
            raise RunError(
                f"{self.path}: is not empty and not a comparison", next_step="choose another name with --name"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        content = {
            "taskdef_version": __version__,
            "plan": self.plan.model_dump(mode="json"),
            "definition": self.matrix.definition.model_dump(mode="json"),
            "human_demos": [demo.model_dump(mode="json") for demo in self.human_demos],
        }
        write_atomically(self.path / COMPARISON_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    @classmethod
    def open(cls, path: Path) -> Comparison:
        """A comparison that was begun. Raises RunError where there is none or its file is damaged."""
        file = path / COMPARISON_FILE
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            plan = parse_plan(content["plan"], str(file))
            definition = TaskDefinition.model_validate(content["definition"])
            demos = [Demo.model_validate(demo) for demo in content["human_demos"]]
        except FileNotFoundError:
            raise RunError(
                f"{path}: not a comparison (no {COMPARISON_FILE})", next_step="taskdef compare PLAN"
            ) from None
        except (yaml.YAMLError, KeyError, TypeError, ValidationError, UnicodeDecodeError) as error:
            raise RunError(f"{file}: damaged: {error}", next_step="begin a new comparison with --name NAME") from None
        return cls(path, build_matrix(plan, definition, path, demos), demos)

    @property
    def quoted_path(self) -> str:
        """The path as a shell takes it."""
        return shlex.quote(str(self.path))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from working on this comparison. Raises RunError, naming it, where one does."""
        with lock_folder(self.path, again=f"taskdef compare {self.quoted_path}"):
            yield

    def run(self, cell: Cell) -> RunDirectory:
        """A cell's run; its folder need not exist yet."""
        return RunDirectory(self.path / cell.run, cell.definition, cell.config)

    def begun_runs(self) -> list[RunDirectory]:
        """The runs whose folder stands, in working order."""
        runs = [self.run(cell) for cell in self.matrix.runs()]
        return [run for run in runs if (run.path / RUN_FILE).exists()]

    def write_entry(
        self,
        run: RunDirectory,
        stage: Stage,
        event: Literal["begun", "computed", "shared", "failed"],
        *,
        source: str = "",
        seconds: float | None = None,
        attempts: int = 0,
        message: str = "",
    ) -> None:
        """Add a line to the journal and flush it to disk."""
        entry = Entry(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            process=os.getpid(),
            run=run.path.name,
            stage=stage,
            event=event,
            source=source,
            seconds=seconds,
            attempts=attempts,
            message=message,
        )
        path = self.path / JOURNAL_FILE
        # a line torn by a kill must not swallow the next one
        torn = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * torn + entry.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def journal(self) -> list[Entry]:
        """Everything that was written down, torn lines left out."""
        path = self.path / JOURNAL_FILE
        if not path.exists():
            return []
        entries = []
        for line in path.read_bytes().splitlines():
            try:
                entries.append(Entry.model_validate(json.loads(line)))
            except ValueError:  # torn by a kill; the work it speaks of is done again or on disk
                continue
        return entries

    def refuse_changes(self, other: Comparison) -> None:
        """Raise ConfigError where ``other`` is no widening of this comparison by variants and seeds."""
        mine, theirs = self.plan.model_dump(), other.plan.model_dump()
        free = ("variants", "seeds", "about", "keep_models", "settings")
        changed = [key for key in mine if mine[key] != theirs[key] and key not in free]
        ours, given = dotted(self.plan.settings), dotted(other.plan.settings)
        changed += [
            f"settings.{key}"
            for key in dict.fromkeys([*ours, *given])
            if ours.get(key) != given.get(key) and first_stage(key) is not None  # caps and memory change no result
        ]
        changed += [
            f"variants.{name}"
            for name, variant in self.plan.variants.items()
            if name in other.plan.variants and other.plan.variants[name] != variant
        ]
        changed += [f"variants.{name} (gone)" for name in self.plan.variants if name not in other.plan.variants]
        changed += [f"seed {seed} (gone)" for seed in self.plan.seeds if seed not in other.plan.seeds]
        changed += ["the task definition"] if self.matrix.definition != other.matrix.definition else []
        if changed:
            raise ConfigError(
                f"{self.path}: this comparison was begun with other values of: {', '.join(changed)}",
                next_step=f"taskdef compare {self.quoted_path} goes on as it was begun; --name NAME begins another one",
            )
