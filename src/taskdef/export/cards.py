"""The cards of exported folders: YAML that the hub reads, then what a person must know before using what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from taskdef import __version__
from taskdef.config import InstructorConfig, RunConfig
from taskdef.export.provenance import Provenance, evaluated, test_source_name
from taskdef.report.gather import Artifacts
from taskdef.report.repeat import repeat_command
from taskdef.report.text import model_name, p_value, percent, points

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(artifacts: Artifacts, facts: Provenance, example: dict[str, str] | None) -> str:
    """The data set's README.md."""
    total = len(artifacts.adapted)
    size = next((name for limit, name in _SIZES if total < limit), "n>1M")
    head = {
        "pretty_name": artifacts.run.definition.name,
        "tags": ["synthetic", "taskdef"],
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "annotations_creators": ["machine-generated"],
        "configs": [
            {"config_name": "training", "default": True, "data_files": _split("training")},
            {"config_name": "all", "data_files": _split("all")},
        ],
    }
    return _render(
        "dataset.md.jinja",
        head,
        artifacts,
        facts,
        example=json.dumps(example, indent=1, ensure_ascii=False) if example else None,
    )


def model_card(artifacts: Artifacts, facts: Provenance) -> str:
    """The model's README.md. Raises RunError where the evaluation is damaged."""
    name, definition = artifacts.run.name, artifacts.run.definition
    head: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["taskdef", artifacts.run.config.train.method],
    }
    if artifacts.run.config.synthesize.human.file is None:
        head["tags"].insert(1, "synthetic-data")
    if facts.base_model_id is not None:
        head["base_model"] = facts.base_model_id
    tuned = artifacts.evaluation.get("models", {}).get("tuned")
    if tuned is not None and tuned["strict"]["share"] is not None:
        source = test_source_name(artifacts)
        metric = {
            "type": "accuracy",
            "name": "accuracy, one greedy attempt a row, strict reading",
            "value": round(tuned["strict"]["share"], 4),
        }
        result = {
            "task": {"type": "text-generation", "name": definition.name},
            "dataset": {"type": (definition.test.hub if definition.test else None) or "local", "name": source},
            "metrics": [metric],
        }
        head["model-index"] = [{"name": name, "results": [result]}]
    return _render("model.md.jinja", head, artifacts, facts, models=evaluated(artifacts))


def _split(name: str) -> list[dict[str, str]]:
    return [{"split": "train", "path": f"data/{name}.parquet"}]


def _public_config(config: RunConfig, facts: Provenance) -> RunConfig:
    """The settings that decide results, without folders and addresses of the machine they were used on."""
    start = config.train.start
    train = config.train.model_copy(update={"start": Path(start).name if start else None})
    human = config.synthesize.human
    if human.file is not None:
        human = human.model_copy(update={"file": Path(human.file.name)})
    return config.model_copy(
        update={
            "instructor": facts.instructor,
            "base_model": facts.base_model,
            "instruct": InstructorConfig(),
            "synthesize": config.synthesize.model_copy(update={"human": human}),
            "train": train,
        }
    )


def _render(template: str, head: dict[str, Any], artifacts: Artifacts, facts: Provenance, **given: Any) -> str:
    # The cards are Markdown; what a model wrote stands in them as JSON in a fence only.
    environment = Environment(
        loader=PackageLoader("taskdef.export"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "points": points, "p_value": p_value, "model_name": model_name}
    body = environment.get_template(template).render(
        run=artifacts.run,
        definition=artifacts.run.definition,
        config=artifacts.run.config,
        artifacts=artifacts,
        evaluation=artifacts.evaluation,
        source=test_source_name(artifacts),
        facts=facts,
        version=__version__,
        command=repeat_command(artifacts.run.definition, _public_config(artifacts.run.config, facts)),
        **given,
    )
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n{body}"
