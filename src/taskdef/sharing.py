"""Finished work of one run given to another, so that what two runs have in common is done once.

Two kinds of work can be had from another run:

- A whole stage, where its settings and its inputs are equal: the digests that manifests hold, so that afterwards the
  manifests of both runs prove it.
- Parts of a stage that depend on less than the whole: attempts of the base model are the same whatever training does
  later. The stage then begins as if an earlier process had made them and been stopped.

Files are hard links where the file system has them, so a warmed-up model takes its space once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from taskdef.config import digest
from taskdef.errors import RunError
from taskdef.records import Stage
from taskdef.store import RunDirectory, StageDirectory, remove_folder


@dataclass(frozen=True)
class Part:
    """Files of a stage, and what they depend on."""

    files: tuple[str, ...]
    """Files and folders; some need not be there."""
    depends: Callable[[RunDirectory], Any]
    """The definition's parts and the settings that these files depend on."""
    inputs: Stage | None
    """The stage whose inputs they depend on too; None where no sample is in them."""

    def expected_key(self, run: RunDirectory) -> str:
        """The key by settings alone, before any stage is done: what will be shared as far as settings tell."""
        return digest([self.files, self.depends(run)])

    def key(self, run: RunDirectory) -> str:
        """Equal for two runs in which these files are the same."""
        if self.inputs is not None:
            return digest([self.expected_key(run), run.stage(self.inputs).inputs()])
        test_file = run.stage(Stage.SYNTHESIZE).manifest().summary.get("test_set")
        return digest([self.expected_key(run), test_file])


def stage_key(run: RunDirectory, stage: Stage) -> str:
    """Equal for two runs in which a stage has the same settings and the same inputs.

    Of a finished stage it is what its manifest says, of another one what it will say. Raises RunError where an earlier
    stage is not done.
    """
    directory = run.stage(stage)
    if directory.is_done():
        manifest = directory.manifest()
        return digest([manifest.config_digest, manifest.inputs])
    return digest([run.settings_digest(stage), directory.inputs()])


def share_stage(source: StageDirectory, target: StageDirectory) -> None:
    """Give a finished stage of one run to another; raises RunError where the other has a different one already."""
    if target.is_done():
        if target.manifest().outputs == source.manifest().outputs:
            return
        raise RunError(
            f"{target.run.path}: has the stage {source.stage.value} of an earlier state of {source.run.path}, "
            "which was redone since",
            next_step=f"remove {target.run.quoted_path}, or keep it under another name",
        )
    if target.stage is Stage.TRAIN:  # before the stage, so that no model is missing where the stage counts as done
        remove_folder(target.run.model_path)
        shutil.copytree(source.run.model_path, target.run.model_path, copy_function=_link_or_copy)
    unfinished = target.path.with_name(f".{target.path.name}.tmp")
    remove_folder(unfinished)
    remove_folder(target.path)
    shutil.copytree(source.path, unfinished, copy_function=_link_or_copy)
    unfinished.rename(target.path)  # so that a kill leaves no manifest beside half of the files


def share_parts(target: StageDirectory, donors: Iterable[RunDirectory]) -> dict[str, RunDirectory]:
    """Begin a stage with what the finished stages of other runs hold of it; gives which file came from which run.

    A stage that was begun already keeps what it has.
    """
    if target.path.exists():
        return {}
    found: dict[str, RunDirectory] = {}
    for part in PARTS.get(target.stage, ()):
        wanted = part.key(target.run)
        for donor in donors:
            folder = donor.stage(target.stage)
            if folder.is_done() and part.key(donor) == wanted:
                found |= {name: donor for name in part.files if (folder.path / name).exists()}
                break
    if found:
        unfinished = target.path.with_name(f".{target.path.name}.tmp")
        remove_folder(unfinished)
        unfinished.mkdir(parents=True)
        for name, donor in found.items():
            given = donor.stage(target.stage).path / name
            if given.is_dir():
                shutil.copytree(given, unfinished / name, copy_function=_link_or_copy)
            else:  # attempts may be appended to: a link would change the other run's
                shutil.copy2(given, unfinished / name)
        unfinished.rename(target.path)
    return found


def _before_rewriting(run: RunDirectory) -> Any:
    """Greedy attempts and the warm-up do not depend on whether samples are rewritten afterwards."""
    return [run.definition.model_dump(mode="json"), run.settings_upto(Stage.ADAPT, without=("adapt",))]


def _all_scored(run: RunDirectory) -> Any:
    """A fixed number of attempts on every sample does not depend on which samples are chosen by them."""
    if run.config.select.rollouts == "adaptive":
        return str(run.path)  # these were made for this choice
    settings = run.settings_upto(Stage.SELECT, without=("select.strategy", "select.size", "select.agreement"))
    return [run.definition.model_dump(mode="json"), settings]


def _base_on_test_rows(run: RunDirectory) -> Any:
    """What the base model answers greedily to the test rows depends on no sample and on no seed."""
    definition = run.definition.model_dump(mode="json", exclude={"demos", "passages", "domains"})
    return [definition, run.config.model_dump(mode="json", include={"base_model", "policy", "verify", "evaluate"})]


def _warm_up_on_test_rows(run: RunDirectory) -> Any:
    return [_base_on_test_rows(run), _before_rewriting(run)]


PARTS: Mapping[Stage, tuple[Part, ...]] = {
    Stage.ADAPT: (
        Part(
            ("attempts-base.jsonl", "warm_up.json", "warm-up", "attempts-warm_up.jsonl"),
            _before_rewriting,
            inputs=Stage.ADAPT,
        ),
    ),
    Stage.SELECT: (Part(("attempts.jsonl",), _all_scored, inputs=Stage.SELECT),),
    Stage.EVALUATE: (
        Part(("attempts-base.jsonl",), _base_on_test_rows, inputs=None),
        Part(("attempts-warm_up.jsonl",), _warm_up_on_test_rows, inputs=Stage.ADAPT),
    ),
}


def _link_or_copy(source: str, target: str) -> None:
    """Files of a finished stage are never written in place, so two runs can have one copy: models are big."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
