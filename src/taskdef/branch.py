"""Another method on the same data: a run beside a run, with its first four stages.

``taskdef train runs/sums --method sft`` makes ``runs/sums-sft``. That is an ordinary run: it is evaluated, reported and
gone on with like any other, and its manifests hold the digests of the samples it was trained on, so that runs to be
compared can be seen to have learned from the same ones.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from taskdef.config import build_config, flatten
from taskdef.errors import ConfigError, RunError
from taskdef.records import Stage
from taskdef.store import STAGES, RunDirectory, StageDirectory, remove_folder

SHARED_STAGES = STAGES[: STAGES.index(Stage.TRAIN)]
_SAME_IN_BOTH = ("attempts-base.jsonl", "attempts-warm_up.jsonl")
"""Held-out attempts of models that do not depend on stage 5."""


def run_for_method(run: RunDirectory, overrides: Mapping[str, Any]) -> RunDirectory:
    """The run that trains as ``overrides`` say: ``run`` itself, or one for another ``train.method`` beside it.

    The other run is made where it is not there yet: it has ``run``'s settings but for those given, and its stages 1 to
    4. Only ``train.*`` can be given. Raises ConfigError for other settings, and where the run that there is was begun
    with other values; RunError where ``run`` has not come as far as its training set, or has another one by now.
    """
    config = build_config(overrides=dict(overrides), base=run.config)
    before, after = flatten(run.config), flatten(config)
    if early := [key for key in after if after[key] != before[key] and not key.startswith("train.")]:
        raise ConfigError(
            f"{', '.join(early)}: belongs to an earlier stage, and only train.* can differ on the same data",
            next_step="a new run with --name NAME",
        )
    if config.train.method == run.config.train.method:
        return RunDirectory.create(run.path, run.definition, config)
    for stage in SHARED_STAGES:
        run.stage(stage).manifest()
    here = run.path if run.path.name not in ("", "..") else run.path.resolve()
    branch = RunDirectory.create(here.with_name(f"{here.name}-{config.train.method}"), run.definition, config)
    with run.locked(), branch.locked():
        for stage in SHARED_STAGES:
            _share(run.stage(stage), branch.stage(stage))
        _share_evaluation(run.stage(Stage.EVALUATE), branch.stage(Stage.EVALUATE))
    return branch


def _share(source: StageDirectory, target: StageDirectory) -> None:
    """Give a stage of one run to another; raises RunError where the other has a different one already."""
    if target.is_done():
        if target.manifest().outputs == source.manifest().outputs:
            return
        raise RunError(
            f"{target.run.path}: has the stage {source.stage.value} of an earlier state of {source.run.path}, "
            "which was redone since",
            next_step=f"remove {target.run.quoted_path}, or keep it under another name",
        )
    unfinished = target.path.with_name(f".{target.path.name}.tmp")
    remove_folder(unfinished)
    remove_folder(target.path)
    shutil.copytree(source.path, unfinished, copy_function=_link_or_copy)
    unfinished.rename(target.path)  # so that a kill leaves no manifest beside half of the files


def _share_evaluation(source: StageDirectory, target: StageDirectory) -> None:
    if source.is_done() and not target.path.exists():
        target.open()
        for name in _SAME_IN_BOTH:
            if (source.path / name).exists():
                shutil.copy2(source.path / name, target.path / name)


def _link_or_copy(source: str, target: str) -> None:
    """Files of a finished stage are never written in place, so two runs can have one copy: warmed-up models are big."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
