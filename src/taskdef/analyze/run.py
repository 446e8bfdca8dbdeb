"""What ``taskdef analyze`` does: describe or compare, draw, print, and bring the report up to date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taskdef.analyze.analysis import Wanted, analyze_run
from taskdef.analyze.dynamics import read_dynamics
from taskdef.analyze.figures import draw_analysis
from taskdef.analyze.run_figures import draw_runs
from taskdef.analyze.tables import print_analysis, print_dynamics
from taskdef.pipeline import write_report
from taskdef.progress import Progress
from taskdef.store import RunDirectory


def describe_run(
    run: RunDirectory, folder: Path, human: Path | None, *, rows: int, attempts: int, progress: Progress
) -> list[Path]:
    """One run's data; gives the figures' files and the report. Raises as ``analyze_run`` and ``draw_analysis`` do."""
    analysis = analyze_run(run, Wanted(human, rows=rows, attempts=attempts), progress)
    files = draw_analysis(analysis, folder)
    print_analysis(analysis)
    return [*files, write_report(run)]


def compare_runs(runs: Sequence[RunDirectory], folder: Path) -> list[Path]:
    """Several runs' training; gives the figures' files. Raises RunError."""
    dynamics = read_dynamics(runs)
    files = draw_runs(dynamics, folder)
    print_dynamics(dynamics)
    return files
