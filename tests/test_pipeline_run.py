"""The whole method on a model of some thousand weights: done once, not twice, and nothing sent anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import taskdef
from taskdef.config import RunConfig, build_config
from taskdef.errors import ConfigError, RunError
from taskdef.errors import TestSetError as HeldOutError
from taskdef.pipeline import run_stage
from taskdef.progress import SilentProgress
from taskdef.records import PassageSource, Stage, TaskDefinition
from taskdef.records import TestSource as HeldOut
from taskdef.store import RunDirectory, StageDirectory, file_digest

SETTINGS: dict[str, Any] = {
    "instructor": "procedural:chain_sum(level.num_terms=0)",
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 6,
    "policy.max_prompt_tokens": 256,
    "retrieve.passages": 3,
    "synthesize.samples": 8,
    "warm_up.max_steps": 2,
    "warm_up.batch": 4,
    "warm_up.learning_rate": 1e-3,
    "select.attempts": 4,
    "select.size": 4,
    "train.max_steps": 2,
    "train.batch": 2,
    "train.completions": 2,
}


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory, sums: TaskDefinition) -> TaskDefinition:
    folder = tmp_path_factory.mktemp("task")
    library = folder / "library.jsonl"
    texts = [f"To add {n} numbers, take their sum term by term." for n in range(2, 8)]
    library.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = [{"input": f"Held out: {n} plus {n}, please", "output": f"#### {2 * n}"} for n in range(100, 105)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sums.model_copy(
        update={"passages": (PassageSource(path=library),), "test": HeldOut(path=folder / "test.jsonl")}
    )


@pytest.fixture(scope="module")
def config(tiny_llama: Path) -> RunConfig:
    return build_config(overrides=SETTINGS | {"base_model": str(tiny_llama)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, definition: TaskDefinition, config: RunConfig) -> RunDirectory:
    return taskdef.run(definition, config, path=tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[RunDirectory], RunDirectory]:
    import shutil

    def copy(run: RunDirectory) -> RunDirectory:
        shutil.copytree(run.path, tmp_path / "copy")
        return RunDirectory.open(tmp_path / "copy")

    return copy


def contents(run: RunDirectory, stages: str = "123456") -> dict[str, bytes]:
    """Every file of the stages given by number, and of the model."""
    files = [file for number in stages for file in run.path.glob(f"{number}-*/**/*") if file.is_file()]
    if "5" in stages:
        files += [file for file in run.model_path.rglob("*") if file.is_file()]
    return {str(file.relative_to(run.path)): file.read_bytes() for file in files}


def artifacts(run: RunDirectory) -> dict[str, str]:
    """Digests from all manifests, by path."""
    return {
        f"{stage.path.name}/{name}": digest
        for stage in run.stages()
        for name, digest in stage.manifest().outputs.items()
    }


def test_every_stage_leaves_its_artifacts(finished: RunDirectory) -> None:
    assert finished.next_stage() is None
    assert sorted(artifacts(finished)) == [
        "1-retrieve/passages.jsonl",
        "1-retrieve/retrieval.json",
        "2-synthesize/drops.jsonl",
        "2-synthesize/pattern.json",
        "2-synthesize/samples.jsonl",
        "3-adapt/attempts-base.jsonl",
        "3-adapt/attempts-warm_up.jsonl",
        "3-adapt/attempts.jsonl",
        "3-adapt/drops.jsonl",
        "3-adapt/samples.jsonl",
        "3-adapt/warm_up.json",
        "4-select/attempts.jsonl",
        "4-select/pass_rates.jsonl",
        "4-select/selected.jsonl",
        "5-train/log.jsonl",
        "6-evaluate/attempts-base.jsonl",
        "6-evaluate/attempts-tuned.jsonl",
        "6-evaluate/attempts-warm_up.jsonl",
        "6-evaluate/evaluation.json",
        "6-evaluate/test_rows.jsonl",
    ]
    assert finished.report_path.read_text().startswith("<!doctype html>")
    # nothing half-made or forgotten is left beside them
    made = {name for name in contents(finished, "12346") if "warm-up/" not in name}
    assert made | {"5-train/log.jsonl"} == set(artifacts(finished)) | {
        f"{stage.path.name}/manifest.json" for stage in finished.stages() if stage.stage is not Stage.TRAIN
    } | {"5-train/log.jsonl"}


def test_the_counts_follow_from_one_another(finished: RunDirectory) -> None:
    summaries = {stage.stage: stage.manifest().summary for stage in finished.stages()}
    assert summaries[Stage.RETRIEVE]["kept"] == 3
    assert summaries[Stage.SYNTHESIZE]["kept"] == 8
    adapted = summaries[Stage.ADAPT]
    assert adapted["solved"] + adapted["unsolved"] == 8
    assert adapted["origins"]["initial"] == 8
    assert adapted["kept"] == sum(adapted["origins"].values()) == summaries[Stage.SELECT]["scored"]
    assert adapted["warm_up_steps"] == 2  # untrained weights hardly ever write ####
    assert summaries[Stage.SELECT]["kept"] == 4
    assert summaries[Stage.TRAIN]["steps"] == 2
    assert summaries[Stage.EVALUATE]["rows"] == 5
    assert set(summaries[Stage.EVALUATE]["accuracy"]) == {"base", "warm_up", "tuned"}


def test_a_second_run_does_nothing(finished: RunDirectory, definition: TaskDefinition, config: RunConfig) -> None:
    before, progress = contents(finished), Lines()
    taskdef.run(definition, config, path=finished.path, progress=progress)
    assert progress.said == [f"{stage.value}: done before" for stage in Stage]
    assert contents(finished) == before


def test_changed_settings_are_refused_by_name(
    finished: RunDirectory, definition: TaskDefinition, config: RunConfig
) -> None:
    before = contents(finished)
    changed = build_config(base=config, overrides={"select.size": 3, "train.max_steps": 1})
    with pytest.raises(ConfigError) as caught:
        taskdef.run(definition, changed, path=finished.path)
    assert str(caught.value) == (
        f"{finished.path}: this run was started with other values of: select.size, train.max_steps"
        "\n  next: a new run with --name NAME, or --fresh select to redo this one from there"
    )
    with pytest.raises(ConfigError, match=r"other values of: definition\.description"):
        taskdef.run(definition.model_copy(update={"description": "Subtract."}), config, path=finished.path)
    with pytest.raises(ConfigError, match=r"synthesize\.samples changed, and already mattered before select"):
        taskdef.run(
            definition,
            build_config(base=config, overrides={"synthesize.samples": 9}),
            path=finished.path,
            fresh=Stage.SELECT,
        )
    assert contents(finished) == before


def test_fresh_redoes_a_stage_and_the_later_ones(
    finished: RunDirectory,
    definition: TaskDefinition,
    config: RunConfig,
    copy_of: Callable[[RunDirectory], RunDirectory],
) -> None:
    run = copy_of(finished)
    before, progress = contents(run, "123"), Lines()
    changed = build_config(base=config, overrides={"select.size": 3})
    taskdef.run(definition, changed, path=run.path, progress=progress, fresh=Stage.SELECT)
    assert progress.said[:3] == ["retrieve: done before", "synthesize: done before", "adapt: done before"]
    assert not [line for line in progress.said[3:] if line.endswith("done before")]
    assert contents(run, "123") == before
    assert run.stage(Stage.SELECT).manifest().summary["kept"] == 3
    assert RunDirectory.open(run.path).config.select.size == 3


def test_without_a_test_set_everything_but_the_evaluation_is_done(
    definition: TaskDefinition, config: RunConfig, tmp_path: Path
) -> None:
    progress = Lines()
    run = taskdef.run(definition.model_copy(update={"test": None}), config, path=tmp_path / "run", progress=progress)
    assert progress.said[-1] == "evaluate: left out, the task definition names no test set"
    assert run.next_stage() is Stage.EVALUATE
    assert (run.model_path / "model.safetensors").exists()
    assert run.report_path.exists()


def test_rows_too_long_for_the_model_are_refused_before_any_model_answers(
    finished: RunDirectory, definition: TaskDefinition, copy_of: Callable[[RunDirectory], RunDirectory]
) -> None:
    """As where the rows are on the hub and could not be looked at before the run."""
    run = copy_of(finished)
    run.fresh_from(Stage.EVALUATE)
    run.config = build_config(base=run.config, overrides={"policy.max_prompt_tokens": 20})
    with pytest.raises(HeldOutError) as caught:
        run_stage(run, Stage.EVALUATE)
    # "Held out: 104 plus 104, please" (30), two line ends, "End with #### and the number." (29), a line end
    assert str(caught.value) == (
        "held-out row test-5: its prompt has 62 tokens, the most of all held-out rows; the limit is 20"
        "\n  next: --set policy.max_prompt_tokens=62"
    )
    assert list(run.stage(Stage.EVALUATE).path.glob("attempts-*")) == []


def test_each_stages_spending_is_its_own(
    definition: TaskDefinition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "answers.jsonl"
    lines = [
        {"purpose": "keywords", "response": '{"keywords": ["sum"]}'},
        {"purpose": "generate", "response": '{"input": "What is 2 + 2?", "output": "#### 4"}'},
        {"purpose": "answer", "response": "#### 4"},
    ]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    overrides = {
        "instructor": f"scripted:{script}",
        "synthesize.samples": 1,
        "synthesize.votes": 2,
        "synthesize.max_draft_factor": 1,
    }
    config = build_config(overrides=overrides)
    run = taskdef.run(definition, config, path=tmp_path / "run", until=Stage.SYNTHESIZE)
    # The ledger, which counts the whole run, holds 3 calls in the end: 1 for keywords, 1 draft, 1 for both votes.
    spent = [run.stage(stage).manifest().summary["spending"]["calls"] for stage in (Stage.RETRIEVE, Stage.SYNTHESIZE)]
    assert spent == [1, 2]
    # stopped after the last answer: the stage done again asks nothing, and what it took is still told
    before = run.stage(Stage.SYNTHESIZE).manifest().summary["spending"]
    stopped = taskdef.run(definition, config, path=tmp_path / "stopped", until=Stage.RETRIEVE)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StageDirectory, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            run_stage(stopped, Stage.SYNTHESIZE)
    after = run_stage(stopped, Stage.SYNTHESIZE).summary["spending"]
    assert after["reused"] > before["reused"]
    assert after | {"reused": before["reused"]} == before


def test_a_test_file_changed_between_the_stages_is_refused(
    finished: RunDirectory, definition: TaskDefinition, copy_of: Callable[[RunDirectory], RunDirectory]
) -> None:
    assert definition.test is not None
    assert definition.test.path is not None
    run, before = copy_of(finished), definition.test.path.read_bytes()
    assert run.stage(Stage.SYNTHESIZE).manifest().summary["test_set"] == file_digest(definition.test.path)
    run.fresh_from(Stage.EVALUATE)
    try:
        definition.test.path.write_bytes(before + b'{"input": "One row more", "output": "#### 1"}\n')
        with pytest.raises(RunError) as caught:
            run_stage(run, Stage.EVALUATE)
    finally:
        definition.test.path.write_bytes(before)
    assert str(caught.value) == (
        f"{definition.test.path}: changed since the samples were kept apart from it"
        f"\n  next: put the earlier file back, or taskdef run {run.path} --fresh synthesize"
    )


def test_stages_one_by_one(definition: TaskDefinition, config: RunConfig, tmp_path: Path) -> None:
    run = taskdef.run(definition, config, path=tmp_path / "run", until=Stage.RETRIEVE)
    assert run.next_stage() is Stage.SYNTHESIZE
    with pytest.raises(RunError) as early:
        run_stage(run, Stage.SELECT)
    assert str(early.value) == (f"{run.path}: the stage synthesize has not been run\n  next: taskdef run {run.path}")
    assert run_stage(run, Stage.SYNTHESIZE).summary["kept"] == 8
    with pytest.raises(RunError) as twice:
        run_stage(run, Stage.SYNTHESIZE)
    assert str(twice.value) == (
        f"{run.path}: the stage synthesize is done already"
        f"\n  next: taskdef run {run.path} --fresh synthesize redoes it and all later ones"
    )


GUARD = """
import os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "local"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    with open(os.environ["ATTEMPTS"], "a") as file:
        file.write(f"{event} {host}\\n")
    if str(host) not in ("127.0.0.1", "::1", "localhost", "local", "None"):
        raise OSError(101, "Network is unreachable")

sys.addaudithook(refuse)
"""


def test_the_main_job_sends_nothing(
    definition: TaskDefinition,
    tiny_llama: Path,
    tmp_path: Path,
    offline_environment: dict[str, str],
    finished: RunDirectory,
) -> None:
    """From the command line, in processes (the verifier's too) whose every connection is refused and counted."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    attempts = tmp_path / "attempts.txt"
    task = definition.model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    environment = offline_environment | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "guard"), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "ATTEMPTS": str(attempts),
        "HF_HOME": str(tmp_path / "hub"),
    }
    # the guard itself is in place: a look-up is refused and written down
    probe = "import socket; socket.getaddrinfo('huggingface.co', 443)"
    refused = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True)
    assert "Network is unreachable" in refused.stderr
    assert attempts.read_text() == "socket.getaddrinfo huggingface.co\n"
    attempts.write_text("")

    words = [sys.executable, "-c", "from taskdef.cli import main; main()", "run", "task.yaml"]
    words += ["--base-model", str(tiny_llama)]
    words += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "report: runs/sums/report.html" in done.stdout
    assert attempts.read_text() == ""
    # the same seed: what it made is, byte for byte, what the library call made
    ours, theirs = artifacts(RunDirectory.open(tmp_path / "runs" / "sums")), artifacts(finished)
    del ours["5-train/log.jsonl"], theirs["5-train/log.jsonl"]
    assert ours == theirs
