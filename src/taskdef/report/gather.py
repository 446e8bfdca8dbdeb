"""Everything the report shows, read from a run's artifacts. What a stage has not left yet is empty, not an error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskdef.errors import RunError
from taskdef.records import Attempt, Drop, Grade, Manifest, Passage, PassRate, Sample, Stage, TestRow
from taskdef.store import FAULT_FILE, RunDirectory

LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class Artifacts:
    """One run's artifacts. A stage that is not done contributes nothing but, while training goes on, its log."""

    run: RunDirectory
    manifests: dict[Stage, Manifest]
    """Of the finished stages, in their order."""
    retrieval: dict[str, Any] = field(default_factory=dict)
    passages: list[Passage] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    """What the grades of the last audit's grader came to."""
    grades: dict[str, str] = field(default_factory=dict)
    """Those grades by passage id."""
    initial: list[Sample] = field(default_factory=list)
    pattern: str = ""
    adapted: list[Sample] = field(default_factory=list)
    """Initial, harder and easier samples together: what was scored."""
    pass_rates: dict[str, PassRate] = field(default_factory=dict)
    """By sample id."""
    selected: list[Sample] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    """Of all stages, in the data's order."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """One mapping a training step."""
    warm_up: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, str] = field(default_factory=dict)
    """Sentence and remedy of a stage that ended for want of memory."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    test_rows: list[TestRow] = field(default_factory=list)
    held_out: dict[str, list[Attempt]] = field(default_factory=dict)
    """Each model's attempts on the test rows."""
    analysis: dict[str, Any] = field(default_factory=dict)
    """What ``taskdef analyze`` measured, where it was asked."""

    @property
    def next_stage(self) -> Stage | None:
        """The first stage that is not done."""
        return next((stage for stage in Stage if stage not in self.manifests), None)

    def is_done(self, stage: Stage) -> bool:
        return stage in self.manifests


def gather(run: RunDirectory) -> Artifacts:
    """Read the artifacts of every finished stage. Raises RunError where one of them is missing or damaged."""
    found: dict[str, Any] = {}
    drops: list[Drop] = []
    manifests = {directory.stage: directory.manifest() for directory in run.stages() if directory.is_done()}
    if Stage.RETRIEVE in manifests:
        directory = run.stage(Stage.RETRIEVE)
        found["retrieval"] = directory.read_json("retrieval.json")
        found["passages"] = directory.read_records("passages.jsonl", Passage)
        if (directory.path / "audit.json").exists():
            found["audit"] = directory.read_json("audit.json")
            found["grades"] = {
                grade.passage_id: grade.relevance.value
                for grade in directory.read_records("grades.jsonl", Grade)
                if grade.grader == found["audit"]["grader"] and grade.relevance is not None
            }
    if Stage.SYNTHESIZE in manifests:
        directory = run.stage(Stage.SYNTHESIZE)
        found["initial"] = directory.read_records("samples.jsonl", Sample)
        found["pattern"] = str(directory.read_json("pattern.json").get("pattern") or "")
        drops += directory.read_records("drops.jsonl", Drop)
    if Stage.ADAPT in manifests:
        directory = run.stage(Stage.ADAPT)
        found["adapted"] = directory.read_records("samples.jsonl", Sample)
        drops += directory.read_records("drops.jsonl", Drop)
        found["warm_up"] = directory.read_json("warm_up.json")
    if Stage.SELECT in manifests:
        directory = run.stage(Stage.SELECT)
        found["pass_rates"] = {rate.sample_id: rate for rate in directory.read_records("pass_rates.jsonl", PassRate)}
        found["selected"] = directory.read_records("selected.jsonl", Sample)
    for directory in run.stages():
        if directory.stage not in manifests and (directory.path / FAULT_FILE).exists():
            found["fault"] = directory.read_json(FAULT_FILE)
    found["log"] = list(_log_lines(run.stage(Stage.TRAIN).path / LOG_FILE))
    if Stage.EVALUATE in manifests:
        directory = run.stage(Stage.EVALUATE)
        found["evaluation"] = directory.read_json("evaluation.json")
        found["test_rows"] = directory.read_records("test_rows.jsonl", TestRow)
        found["held_out"] = {
            model: directory.read_records(f"attempts-{model}.jsonl", Attempt) for model in found["evaluation"]["models"]
        }
    if run.analysis_path.exists():
        found["analysis"] = _read_analysis(run.analysis_path, run)
    return Artifacts(run=run, manifests=manifests, drops=drops, **found)


def attempts_on(artifacts: Artifacts, sample_ids: set[str]) -> dict[Stage, dict[str, list[Attempt]]]:
    """The attempts on some samples before training: the greedy one (adapt) and those scored (select), by sample id.

    Read line by line: at the paper's sizes there are some hundred thousand scored attempts.
    """
    found: dict[Stage, dict[str, list[Attempt]]] = {}
    for stage in (Stage.ADAPT, Stage.SELECT):
        of_stage = found.setdefault(stage, {})
        path = artifacts.run.stage(stage).path / "attempts.jsonl"
        if not artifacts.is_done(stage) or not path.exists():
            continue
        with path.open("rb") as lines:
            for line in lines:
                attempt = Attempt.model_validate_json(line)
                if attempt.sample_id in sample_ids:
                    of_stage.setdefault(attempt.sample_id, []).append(attempt)
    return found


def figures(log: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) of one logged figure, where it was logged and is a finite number."""
    return [
        (float(entry.get("step", index + 1)), float(entry[key]))
        for index, entry in enumerate(log)
        if isinstance(entry.get(key), int | float) and math.isfinite(entry[key])
    ]


def _read_analysis(path: Path, run: RunDirectory) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise RunError(f"{path}: damaged: {error}", next_step=f"taskdef analyze {run.quoted_path}") from None
    return dict(content)


def _log_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log that may still be written to."""
    if not path.exists():
        return
    content = path.read_bytes()
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        entry = json.loads(line)
        if isinstance(entry, dict):
            yield entry
