"""Folders with a card: the data as a Hugging Face data set, the tuned model as a Hugging Face model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taskdef.errors import RunError
from taskdef.export.cards import dataset_card, model_card
from taskdef.export.provenance import Provenance, provenance
from taskdef.export.rows import Rows, unwritable, write_parquet
from taskdef.export.samples import read_pass_rates, read_samples
from taskdef.policy.prompting import task_prompt
from taskdef.records import PassRate, Sample, Stage
from taskdef.report.gather import Artifacts, gather
from taskdef.store import RunDirectory

CARD = "README.md"


def write_dataset_folder(run: RunDirectory, out: Path) -> None:
    """Training set and all samples as Parquet, with a card; ``datasets.load_dataset`` reads the folder.

    Neither passages nor held-out rows are in it: both belong to others. So do human rows, and a run that was trained on
    them has no data set. Raises RunError there, where the run has no training set yet, or where the folder exists or
    cannot be written.
    """
    run.stage(Stage.SELECT).manifest()
    if (human := run.config.synthesize.human.file) is not None:
        raise RunError(
            f"{run.path}: its samples are rows of {human.name}, which people made; they are no data set of taskdef's",
            next_step=f"taskdef export {run.quoted_path} --to prompt-completion FILE has the rows for a trainer",
        )
    artifacts = gather(run)
    _write_folder(out, lambda folder: _fill_dataset(artifacts, folder))
    print(f"wrote {len(artifacts.selected):,} training samples of {len(artifacts.adapted):,} to {out}")


def write_model_folder(run: RunDirectory, out: Path) -> None:
    """The tuned model with a card. Raises RunError where there is none, or the folder exists or cannot be written."""
    run.stage(Stage.TRAIN).manifest()
    if not run.model_path.is_dir():
        raise RunError(
            f"{run.model_path}: the tuned model is gone", next_step=f"taskdef run {run.quoted_path} --fresh train"
        )
    artifacts = gather(run)
    _write_folder(out, lambda folder: _fill_model(artifacts, folder))
    print(f"wrote the tuned model to {out}")


def _write_folder(out: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder that appears under its name when complete."""
    if out.exists():
        raise unwritable(out, FileExistsError(17, "File exists"))
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        temporary.rename(out)
    except OSError as error:
        raise unwritable(out, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill_dataset(artifacts: Artifacts, folder: Path) -> None:
    run, facts = artifacts.run, provenance(artifacts)
    (folder / "data").mkdir()
    rates = read_pass_rates(run)
    rows: Mapping[str, list[Sample]] = {"training": read_samples(run, "training"), "all": read_samples(run, "all")}
    for name, samples in rows.items():
        write_parquet(_sample_rows(run, samples, rates), folder / "data" / f"{name}.parquet")
    example = _example(run, rows["training"])
    (folder / CARD).write_text(dataset_card(artifacts, facts, example), encoding="utf-8")


def _fill_model(artifacts: Artifacts, folder: Path) -> None:
    facts: Provenance = provenance(artifacts)
    shutil.copytree(artifacts.run.model_path, folder, dirs_exist_ok=True)
    (folder / CARD).write_text(model_card(artifacts, facts), encoding="utf-8")


def _sample_rows(run: RunDirectory, samples: list[Sample], rates: Mapping[str, PassRate]) -> Rows:
    import pyarrow

    text, count = pyarrow.string(), pyarrow.int64()
    names = ("id", "input", "prompt", "solution", "answer", "origin", "parent_id", "passage_id", "domain")
    schema = pyarrow.schema(
        dict.fromkeys(names, text)
        | {"votes": count, "vote_count": count}
        | {"pass_rate": pyarrow.float64(), "attempts": count, "level": text}
    )
    rows: list[dict[str, Any]] = []
    for sample in samples:
        rate = rates.get(sample.id)
        rows.append(
            sample.model_dump(mode="json", exclude={"level"})
            | {
                "prompt": task_prompt(run.definition, sample.input),
                "pass_rate": rate.rate if rate is not None else None,
                "attempts": rate.attempts if rate is not None else None,
                "level": json.dumps(sample.level) if sample.level else None,
            }
        )
    return Rows(rows, "samples", schema=schema)


def _example(run: RunDirectory, samples: list[Sample]) -> dict[str, str] | None:
    """The first sample whose texts are short enough to be read on a card."""
    for sample in samples:
        if len(sample.input) + len(sample.solution) <= 1200:
            return {"input": sample.input, "solution": sample.solution, "answer": sample.answer}
    return None
