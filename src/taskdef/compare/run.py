"""The work: run after run, stage after stage, each taken over from another run where it is the same there."""

from __future__ import annotations

import time
from pathlib import Path

from taskdef import pipeline
from taskdef.compare.comparison import Comparison
from taskdef.compare.matrix import Cell
from taskdef.errors import BudgetReached, OutOfMemory, RunError, TaskdefError
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Stage
from taskdef.sharing import share_parts, share_stage, stage_key
from taskdef.store import STAGES, RunDirectory, remove_folder


def run_comparison(comparison: Comparison, progress: Progress | None = None) -> None:
    """Work on every run that is not finished, all variants of a seed before the next seed.

    A run that fails is written down, and the others go on; in the end RunError names those that did. BudgetReached ends
    it at once. Whatever is stopped goes on where it was when this is called again.
    """
    progress = progress or SilentProgress()
    cells = comparison.matrix.runs()
    failed: list[str] = []
    with comparison.locked():
        for number, cell in enumerate(cells, start=1):
            try:
                _work_on(comparison, cell, f"[{number}/{len(cells)}] {cell.name}", progress)
            except BudgetReached as reached:
                more = f"--set instruct.budget=MORE, where MORE is above {cell.config.instruct.budget}"
                raise BudgetReached(
                    f"{cell.name}: {reached.message}", next_step=f"repeat the command that began it, with {more}"
                ) from None
            except TaskdefError as error:
                failed.append(f"{cell.name}: {error.message}{_remedy(error)}")
                progress.line(f"[{number}/{len(cells)}] {cell.name}: failed: {error.message}")
    if failed:
        others = ", the others are done" if len(failed) < len(cells) else ""
        raise RunError(
            f"{comparison.path}: {len(failed)} of {len(cells)} runs failed{others}:\n  " + "\n  ".join(failed),
            next_step=f"mend the cause, then: taskdef compare {comparison.quoted_path}",
        )


def _remedy(error: TaskdefError) -> str:
    """What would mend it. Memory: not by the run's own command, since a run has the comparison's settings."""
    if isinstance(error, OutOfMemory) and error.settings:
        changes = " ".join(f"--set {key}={value}" for key, value in error.settings.items())
        return f" (repeat the command that began the comparison, with {changes})"
    return f" ({error.next_step})" if error.next_step else ""


def _work_on(comparison: Comparison, cell: Cell, label: str, progress: Progress) -> None:
    run = RunDirectory.create(comparison.path / cell.run, cell.definition, cell.config)
    if run.next_stage() is None and run.report_path.exists():
        progress.line(f"{label}: done before")
        _leave_model(comparison, run)  # a kill may have come between the report and this
        return
    for stage in STAGES:
        if run.stage(stage).is_done():
            continue
        donors = [other for other in comparison.begun_runs() if other.path != run.path]
        source = _same_stage(run, stage, donors)
        if source is not None:
            share_stage(source.stage(stage), run.stage(stage))
            comparison.write_entry(run, stage, "shared", source=source.path.name)
            progress.line(f"{label}: {stage.value}: the same as in {source.path.name}")
            continue
        taken = share_parts(run.stage(stage), donors)
        attempts = sum(_lines(run.stage(stage).path / name) for name in taken if name.endswith(".jsonl"))
        sources = ", ".join(dict.fromkeys(donor.path.name for donor in taken.values()))
        comparison.write_entry(run, stage, "begun", source=sources, attempts=attempts)
        progress.line(f"{label}: {stage.value}" + (f", with {attempts:,} attempts of {sources}" if attempts else ""))
        started = time.monotonic()
        try:
            pipeline.run_stage(run, stage, progress)
        except TaskdefError as error:
            comparison.write_entry(run, stage, "failed", message=error.message)
            raise
        comparison.write_entry(run, stage, "computed", seconds=round(time.monotonic() - started, 3))
    pipeline.write_report(run)
    _leave_model(comparison, run)


def _leave_model(comparison: Comparison, run: RunDirectory) -> None:
    """Keep the tuned model or not, as the plan says."""
    if not comparison.plan.keep_models:
        remove_folder(run.model_path)


def _same_stage(run: RunDirectory, stage: Stage, donors: list[RunDirectory]) -> RunDirectory | None:
    """A run in which this stage is done and the same; for the training, one that has its model still."""
    wanted = stage_key(run, stage)
    for donor in donors:
        same = donor.stage(stage).is_done() and stage_key(donor, stage) == wanted
        if same and (stage is not Stage.TRAIN or donor.model_path.exists()):
            return donor
    return None


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
