"""report.html: one page that opens from disk, shows a run's artifacts and loads nothing.

Every text in it may come from a model and counts as hostile: templates escape, and the page's content policy lets
no script run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from taskdef import __version__
from taskdef.records import Drop, Origin, Stage, Verdict
from taskdef.report import browse, text
from taskdef.report.analysis import analysis_part
from taskdef.report.diagnosis import diagnose
from taskdef.report.fates import document_use, fate_tables, run_fates
from taskdef.report.flow import draw_flow, flow_counts
from taskdef.report.gather import Artifacts, gather
from taskdef.report.panels import held_out_length_panels, pass_rate_panels, training_panels
from taskdef.report.repeat import definition_file, definition_yaml, repeat_command, settings
from taskdef.store import RunDirectory, write_atomically

_FILTERS = ("model_name", "percent", "points", "number", "duration", "p_value", "p_words", "words", "clip", "one_line")


def render_report(run: RunDirectory) -> Path:
    """Write ``report.html`` into the run and return its path. An unfinished run gives the page of what there is.

    Raises RunError where an artifact of a finished stage is missing or damaged.
    """
    artifacts = gather(run)
    page = page_environment("taskdef.report", _FILTERS).get_template("report.html.jinja").render(_context(artifacts))
    write_atomically(run.report_path, page)
    return run.report_path


def page_environment(package: str, filters: Sequence[str]) -> Environment:
    """The templates of ``package``, escaped and strict, with these functions of report.text as filters."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(text, name) for name in filters}
    return environment


def _context(artifacts: Artifacts) -> dict[str, Any]:
    run = artifacts.run
    files = resources.files("taskdef.report")
    script = (files / "templates" / "browser.js.jinja").read_text(encoding="utf-8")
    counts = flow_counts(artifacts)
    definition = definition_yaml(run.definition)
    fates = run_fates(artifacts)
    return {
        "run": run,
        "artifacts": artifacts,
        "evaluation": artifacts.evaluation,
        "version": __version__,
        "style": Markup((files / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "stages": [
            {"stage": stage, "manifest": artifacts.manifests.get(stage), "reached": _reached(artifacts, stage)}
            for stage in Stage
        ],
        "diagnoses": diagnose(artifacts),
        "flow": draw_flow(counts) if counts else None,
        "drop_counts": _drop_counts(artifacts.drops),
        "documents": document_use(fates, artifacts.passages),
        "fate_tables": fate_tables(artifacts, fates),
        "pass_rates": pass_rate_panels(artifacts),
        "analysis": analysis_part(artifacts),
        "lengths": held_out_length_panels(artifacts),
        "curves": training_panels(artifacts),
        "sheets": browse.choose_sheets(artifacts),
        "drops": browse.choose_drops(artifacts),
        "held_out": browse.choose_held_out(artifacts),
        "text_limit": browse.TEXT,
        "short_limit": browse.SHORT,
        "spent": _spent(run),
        "settings": settings(run.config),
        "go_on": f"taskdef run {shlex.quote(str(run.path))}",
        "command": repeat_command(run.definition, run.config),
        "definition_file": definition_file(run.definition),
        "definition_yaml": definition,
        "definition_data": base64.b64encode(definition.encode()).decode(),
        "Stage": Stage,
        "Origin": Origin,
        "Verdict": Verdict,
    }


def _reached(artifacts: Artifacts, stage: Stage) -> str:
    """Where a stage stands, in one figure."""
    if stage not in artifacts.manifests:
        if stage is Stage.TRAIN and artifacts.log:
            return f"under way: {text.number(len(artifacts.log))} steps"
        return "not run yet"
    return {
        Stage.RETRIEVE: f"{text.number(len(artifacts.passages))} passages",
        Stage.SYNTHESIZE: f"{text.number(len(artifacts.initial))} initial samples",
        Stage.ADAPT: f"{text.number(len(artifacts.adapted))} samples",
        Stage.SELECT: f"{text.number(len(artifacts.selected))} selected",
        Stage.TRAIN: f"{text.number(len(artifacts.log))} steps",
        Stage.EVALUATE: f"{text.number(artifacts.evaluation.get('rows'))} held-out rows",
    }[stage]


def _drop_counts(drops: list[Drop]) -> dict[Stage, dict[str, int]]:
    """Drops by stage and reason, the most frequent first."""
    counts: dict[Stage, dict[str, int]] = {}
    for drop in drops:
        of_stage = counts.setdefault(drop.stage, {})
        of_stage[drop.reason.value] = of_stage.get(drop.reason.value, 0) + 1
    return {stage: dict(sorted(counts[stage].items(), key=lambda pair: -pair[1])) for stage in Stage if stage in counts}


def _spent(run: RunDirectory) -> dict[str, Any]:
    """The ledger's totals and the cost in words, empty where no call was recorded."""
    if not run.ledger_path.exists():
        return {}
    from taskdef.instruct.ledger import Ledger

    with closing(Ledger(run.ledger_path, read_only=True)) as ledger:
        totals = ledger.totals()
    return {"totals": totals, "cost": totals.cost_text()}
