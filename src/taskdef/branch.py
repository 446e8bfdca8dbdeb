"""Another method on the same data: a run beside a run, with its first four stages.

``taskdef train runs/sums --method sft`` makes ``runs/sums-sft``. That is an ordinary run: it is evaluated, reported and
gone on with like any other, and its manifests hold the digests of the samples it was trained on, so that runs to be
compared can be seen to have learned from the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskdef.config import build_config, flatten
from taskdef.errors import ConfigError
from taskdef.records import Stage
from taskdef.sharing import share_parts, share_stage
from taskdef.store import STAGES, RunDirectory

SHARED_STAGES = STAGES[: STAGES.index(Stage.TRAIN)]


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
            share_stage(run.stage(stage), branch.stage(stage))
        share_parts(branch.stage(Stage.EVALUATE), [run])
    return branch
