"""The forms that a run can be exported in, and the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taskdef.errors import ConfigError
from taskdef.export.calls import call_rows
from taskdef.export.folders import write_dataset_folder, write_model_folder
from taskdef.export.push import push_folder, require_push
from taskdef.export.rows import Rows, write_rows
from taskdef.export.samples import Style, Which, prompt_style
from taskdef.export.stepwise import step_rows
from taskdef.export.trl import completion_rows, message_rows, preference_rows, prompt_rows
from taskdef.export.verl import verl_rows
from taskdef.store import RunDirectory


@dataclass(frozen=True)
class Choices:
    """What can be chosen about an export; None where nothing was."""

    samples: Which | None = None
    style: Style | None = None
    data_source: str | None = None
    push: str | None = None


@dataclass(frozen=True)
class _Format:
    """Rows for a file, or a folder; and the choices that it has."""

    rows: Callable[[RunDirectory, Choices], Rows] | None = None
    folder: Callable[[RunDirectory, Path], None] | None = None
    kind: Literal["dataset", "model"] = "dataset"
    choices: tuple[str, ...] = ()
    suffix: str = ".jsonl"


FORMATS: Mapping[str, _Format] = {
    "prompts": _Format(
        lambda run, chosen: prompt_rows(run, chosen.samples or "training", _style(run, chosen)),
        choices=("samples", "style"),
    ),
    "prompt-completion": _Format(
        lambda run, chosen: completion_rows(run, chosen.samples or "training", _style(run, chosen)),
        choices=("samples", "style"),
    ),
    "messages": _Format(lambda run, chosen: message_rows(run, chosen.samples or "training"), choices=("samples",)),
    "preference": _Format(lambda run, chosen: preference_rows(run, _style(run, chosen)), choices=("style",)),
    "stepwise": _Format(lambda run, _: step_rows(run)),
    "verl": _Format(
        lambda run, chosen: verl_rows(run, chosen.samples or "training", chosen.data_source),
        choices=("samples", "data_source"),
        suffix=".parquet",
    ),
    "dataset": _Format(folder=write_dataset_folder, choices=("push",)),
    "model": _Format(folder=write_model_folder, kind="model", choices=("push",)),
    "calls": _Format(lambda run, _: call_rows(run)),
}
"""By the names that ``taskdef export --to`` takes."""


def export_run(run: RunDirectory, name: str, out: Path | None, chosen: Choices | None = None) -> None:
    """Write the run in the form ``name`` to ``out``, a file or folder that does not exist; rows also go to stdout.

    Raises ConfigError for a choice that the form does not have, a missing ``out`` and a push that cannot be; RunError
    where the run has not come that far, ``out`` cannot be written, or the hub does not take it.
    """
    chosen = chosen or Choices()
    form = FORMATS[name]
    for choice, value in vars(chosen).items():
        if value is not None and choice not in form.choices:
            having = ", ".join(other for other, of in FORMATS.items() if choice in of.choices)
            raise ConfigError(
                f"--{choice.replace('_', '-')} {value}: --to {name} has no such choice",
                next_step=f"it goes with: {having}",
            )
    token = require_push(chosen.push) if chosen.push is not None else ""
    if out is None and (form.rows is None or form.suffix == ".parquet"):
        what = "a folder" if form.rows is None else "a file that ends in .parquet"
        raise ConfigError(f"--to {name}: needs {what}", next_step=f"taskdef export {run.quoted_path} --to {name} OUT")
    if form.rows is not None:
        if out is not None and form.suffix == ".parquet" and out.suffix != ".parquet":
            raise ConfigError(f"{out}: {name} is Parquet", next_step=f"name it {out.with_suffix('.parquet')}")
        write_rows(form.rows(run, chosen), out)
    elif form.folder is not None and out is not None:
        form.folder(run, out)
        if chosen.push is not None:
            print(f"pushed to {push_folder(out, chosen.push, form.kind, token)} (private)")


def _style(run: RunDirectory, chosen: Choices) -> Style:
    return chosen.style or prompt_style(run)
