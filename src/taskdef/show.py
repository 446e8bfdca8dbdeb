"""Where a run stands, in text: what ``taskdef show`` prints, and the lines that close a finished run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskdef.readable import duration
from taskdef.records import Manifest, Stage
from taskdef.store import RunDirectory, StageDirectory

_PIPED_WIDTH = 1000
"""Columns where stdout is no terminal: room for every cell on one line, so that grep and head see whole rows."""


def print_run(run: RunDirectory) -> None:
    """Print the table of stages, what was spent, and the next command. Raises RunError for a damaged manifest."""
    print(f"{run.path}: {run.definition.name}, {run.config.base_model}, {run.config.instructor}")
    print_table(
        ("", "stage", "state", "finished (UTC)", "took", "counts"),
        [
            (str(number), directory.stage.value, *_stage_cells(directory))
            for number, directory in enumerate(run.stages(), start=1)
        ],
    )
    print(f"spent: {spending_text(run)}", *_whereabouts(run), sep="\n")


def print_calls(run: RunDirectory) -> None:
    """Print what was asked of the instructor by purpose, the faults on the way, and the sum."""
    if not run.ledger_path.exists():
        print(f"{run.path}: no instructor call is recorded")
        return
    from taskdef.instruct.ledger import Ledger

    with contextlib.closing(Ledger(run.ledger_path, read_only=True)) as ledger:
        totals, purposes = ledger.totals(), ledger.by_purpose()
    print_table(
        ("purpose", "responses", "from cache", "tokens read", "(cached)", "written", "cost (usd)", "mean latency"),
        [
            (
                *(each.purpose, f"{each.responses:,}", f"{each.from_cache:,.0f}"),
                *(f"{each.prompt_tokens:,}", f"{each.cached_tokens:,}", f"{each.completion_tokens:,}"),
                *(each.cost_text(), duration(each.seconds)),
            )
            for each in purposes
        ],
    )
    if totals.faults:
        print("faults:", ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in totals.faults.items()))
    print(f"spent: {totals}")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns on stdout; on a terminal the last one wraps, in a pipe every row is one line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=heading != headings[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(table)


def closing_lines(run: RunDirectory, findings: Sequence[str] = ()) -> list[str]:
    """What a run that ended says on stdout: the headline where there is one, what went wrong, where everything is."""
    return [*headline(run), *findings, *_whereabouts(run)]


def headline(run: RunDirectory) -> list[str]:
    """Held-out accuracy of each model, one line each; none before the evaluation is done."""
    directory = run.stage(Stage.EVALUATE)
    if not directory.is_done():
        return []
    evaluation = directory.read_json("evaluation.json")
    lines = [f"{evaluation['rows']} held-out rows:"]
    for model, result in evaluation["models"].items():
        lines.append(
            f"  {model:<8} {_accuracy(result['strict'])} read strictly, {_accuracy(result['lenient'])} leniently"
        )
    return lines


def counts_text(manifest: Manifest) -> str:
    """A stage's counts on one line: ``samples 200, dropped: duplicate 3, no_majority 9``."""
    no_counts = ("spending", "test_set")
    return _counts({key: value for key, value in manifest.summary.items() if key not in no_counts})


def spending_text(run: RunDirectory) -> str:
    """What the instructor has cost so far, from the ledger."""
    if run.config.instructor.startswith("procedural:"):
        return "nothing: the instructor is a program"
    if not run.ledger_path.exists():
        return "nothing: no instructor call is recorded"
    from taskdef.instruct.ledger import Ledger

    with contextlib.closing(Ledger(run.ledger_path, read_only=True)) as ledger:
        return str(ledger.totals())


def _whereabouts(run: RunDirectory) -> list[str]:
    lines = []
    if run.stage(Stage.TRAIN).is_done():
        lines.append(f"model: {run.model_path}")
    if run.report_path.exists():
        lines.append(f"report: {run.report_path}")
    following = run.next_stage()
    if following is not None:
        lines.append(f"next: taskdef run {run.quoted_path}   (goes on with {following.value})")
    elif not run.report_path.exists():
        lines.append(f"next: taskdef report {run.quoted_path}")
    return lines


def _stage_cells(directory: StageDirectory) -> tuple[str, str, str, str]:
    if not directory.is_done():
        return ("begun" if directory.path.exists() else "to do", "", "", "")
    manifest = directory.manifest()
    finished = manifest.finished_at.replace("T", " ").removesuffix("+00:00")
    return ("done", finished, duration(manifest.seconds), counts_text(manifest))


def _counts(values: Mapping[str, Any]) -> str:
    parts = []
    for key, value in values.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            if inner := _counts({reason: count for reason, count in value.items() if count}):
                parts.append(f"{name}: {inner}")
        elif isinstance(value, bool):
            parts.append(f"{name} {'yes' if value else 'no'}")
        elif isinstance(value, float):
            parts.append(f"{name} {value:.3g}")
        elif isinstance(value, int | str) and value != "":
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def _accuracy(accuracy: Mapping[str, Any]) -> str:
    if accuracy["share"] is None:
        return "not measured"
    return f"{accuracy['share']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%})"
