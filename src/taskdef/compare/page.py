"""The pages of a comparison: one HTML file that opens offline, the same tables in Markdown, and the figures in JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from taskdef import __version__
from taskdef.compare.comparison import Comparison
from taskdef.compare.results import Line, Results, Score, read_results
from taskdef.compare.tables import all_tables, interval, markdown, p_text
from taskdef.report import text
from taskdef.report.charts import nice_ticks
from taskdef.report.render import page_environment
from taskdef.store import write_atomically

HTML_FILE, MARKDOWN_FILE, JSON_FILE = "comparison.html", "comparison.md", "comparison.json"
_FILTERS = ("clean",)


@dataclass(frozen=True)
class Mark:
    """One line of the chart; places are percent of its width."""

    title: str
    css: str
    low: float
    high: float
    mean: float
    seeds: tuple[float, ...]
    figure: str
    range: str
    note: str


def write_pages(comparison: Comparison) -> Path:
    """Write all three from what is finished so far; gives the HTML page's path.

    Raises RunError where an artifact of a finished run is missing or damaged.
    """
    results = read_results(comparison)
    tables = all_tables(comparison, results)
    environment = page_environment("taskdef.compare", _FILTERS)
    files = resources.files("taskdef")
    marks, ticks = chart(comparison, results)
    page = environment.get_template("comparison.html.jinja").render(
        plan=comparison.plan,
        definition=comparison.matrix.definition,
        headline=headline(comparison, results),
        complete=results.is_complete,
        go_on=f"taskdef compare {comparison.quoted_path}",
        marks=marks,
        ticks=ticks,
        tables=tables,
        failures=results.failures,
        runs=_runs(comparison),
        settings=plan_yaml(comparison),
        version=__version__,
        style=Markup(
            (files / "report" / "report.css").read_text(encoding="utf-8")
            + (files / "compare" / "templates" / "comparison.css").read_text(encoding="utf-8")
        ),
    )
    write_atomically(comparison.path / MARKDOWN_FILE, markdown(comparison, results, tables))
    write_atomically(comparison.path / JSON_FILE, json.dumps(_plain(results), indent=1, ensure_ascii=False) + "\n")
    write_atomically(comparison.path / HTML_FILE, page)
    return comparison.path / HTML_FILE


def headline(comparison: Comparison, results: Results) -> str:
    """What was found, in one sentence."""
    reference = comparison.matrix.title(comparison.plan.reference)
    tested = [line for line in results.lines if line.test is not None]
    apart = [line for line in tested if line.test is not None and (line.test.adjusted or 0.0) < 0.05]
    if not tested:
        return "Nothing can be compared yet: no two variants are finished with the same seed."
    if not apart:
        return f"None of {len(tested)} variants could be told from {reference} (Holm, 5%)."
    better = [line.title for line in apart if line.test is not None and line.test.difference.mean > 0]
    worse = [line.title for line in apart if line.title not in better]
    parts = ([f"better: {', '.join(better)}"] if better else []) + ([f"worse: {', '.join(worse)}"] if worse else [])
    return (
        f"{len(apart)} of {len(tested)} variants differ from {reference} beyond chance (Holm, 5%): {'; '.join(parts)}."
    )


def chart(comparison: Comparison, results: Results) -> tuple[list[Mark], list[tuple[float, str]]]:
    """Accuracies with intervals and seeds on one scale, the base model first; and the scale's ticks."""
    reference = next(line for line in results.lines if line.is_reference)
    shown: list[tuple[str, str, Score, str]] = []
    if reference.base is not None:
        shown.append(("base model", "base", reference.base, ""))
    if reference.warm_up is not None:
        shown.append(("after warm-up", "warm_up", reference.warm_up, ""))
    shown += [
        (line.title, "reference" if line.is_reference else "tuned", line.score, _note(line))
        for line in results.lines
        if line.score is not None and not line.same_as
    ]
    if not shown:
        return [], []
    values = [v for _, _, s, _ in shown for v in (s.estimate.low, s.estimate.high, *s.by_seed.values())]
    scale = nice_ticks(100 * min(values), 100 * max(values), 5)
    low, span = scale[0], scale[-1] - scale[0]

    def place(share: float) -> float:
        return round(100 * (100 * share - low) / span, 2)

    marks = [
        Mark(
            title=title,
            css=css,
            low=place(score.estimate.low),
            high=place(score.estimate.high),
            mean=place(score.estimate.mean),
            seeds=tuple(place(share) for share in score.by_seed.values()),
            figure=f"{100 * score.estimate.mean:.1f}",
            range=interval(score.estimate),
            note=note,
        )
        for title, css, score, note in shown
    ]
    return marks, [(round(100 * (tick - low) / span, 2), f"{tick:g}%") for tick in scale]


def plan_yaml(comparison: Comparison) -> str:
    """The plan as it was worked on."""
    return yaml.safe_dump(
        comparison.plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True, width=100
    )


def _note(line: Line) -> str:
    if line.is_reference:
        return "reference"
    if line.test is None:
        return line.state
    difference = text.points(100 * line.test.difference.mean)
    return f"{difference} points, Holm p {p_text(line.test.adjusted)}" + (f"; {line.state}" if line.state else "")


def _runs(comparison: Comparison) -> Sequence[tuple[str, str]]:
    """(name, relative address) of the runs' own reports."""
    runs = [(cell, comparison.run(cell)) for cell in comparison.matrix.runs()]
    return [(cell.name, f"{run.path.name}/report.html") for cell, run in runs if run.report_path.exists()]


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    return None if isinstance(value, float) and value != value else value
