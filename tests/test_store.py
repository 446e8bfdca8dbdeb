"""The run directory: what marks a stage as done, what going on tolerates, which changes are refused."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import taskdef
from taskdef.config import RunConfig, build_config, known_keys
from taskdef.errors import ConfigError, RunError
from taskdef.pipeline import run_stage
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Drop, DropReason, Stage, TaskDefinition
from taskdef.records import TestSource as HeldOut
from taskdef.store import STAGE_SETTINGS, STAGES, RunDirectory, changed_keys, file_digest, write_atomically

DEFINITION = TaskDefinition(
    name="sums",
    description="Add.",
    output_format="End with #### and the sum.",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)


def make_run(tmp_path: Path, config: RunConfig | None = None) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", DEFINITION, config or RunConfig())


def finish(run: RunDirectory, stage: Stage, text: str = "{}\n") -> None:
    directory = run.stage(stage)
    directory.open()
    (directory.path / "a.json").write_text(text)
    directory.finish(started=time.monotonic(), artifacts=["a.json"], summary={"count": 1})


def drop(number: int) -> Drop:
    return Drop(reason=DropReason.DUPLICATE, stage=Stage.SYNTHESIZE, id=str(number))


def test_a_run_comes_back_as_it_was_made(tmp_path: Path) -> None:
    config = build_config(profile="small", overrides={"select.size": "9"})
    run = make_run(tmp_path, config)
    again = RunDirectory.open(run.path)
    assert (again.definition, again.config) == (DEFINITION, config)


def test_the_folders_are_numbered_in_the_stages_order(tmp_path: Path) -> None:
    names = [directory.path.name for directory in make_run(tmp_path).stages()]
    assert names == ["1-retrieve", "2-synthesize", "3-adapt", "4-select", "5-train", "6-evaluate"]


def test_a_stage_is_done_when_its_manifest_stands(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.stage(Stage.RETRIEVE).open()
    assert not run.stage(Stage.RETRIEVE).is_done()
    assert run.next_stage() is Stage.RETRIEVE
    finish(run, Stage.RETRIEVE)
    assert run.stage(Stage.RETRIEVE).is_done()
    assert run.next_stage() is Stage.SYNTHESIZE


def test_a_manifest_holds_the_digests_of_inputs_and_outputs(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    finish(run, Stage.RETRIEVE, "first\n")
    finish(run, Stage.SYNTHESIZE, "second\n")
    manifest = run.stage(Stage.SYNTHESIZE).manifest()
    assert manifest.inputs == {"1-retrieve/a.json": file_digest(run.path / "1-retrieve" / "a.json")}
    assert manifest.outputs == {"a.json": file_digest(run.path / "2-synthesize" / "a.json")}
    assert manifest.summary == {"count": 1}


def test_a_line_torn_by_a_kill_is_cut_off_and_appending_goes_on(tmp_path: Path) -> None:
    directory = make_run(tmp_path).stage(Stage.SYNTHESIZE)
    directory.open()
    directory.append_records("drops.jsonl", [drop(1), drop(2)])
    with (directory.path / "drops.jsonl").open("ab") as file:
        file.write(b'{"reason": "dupl')
    assert directory.read_partial("drops.jsonl", Drop) == [drop(1), drop(2)]
    directory.append_records("drops.jsonl", [drop(3)])
    assert directory.read_records("drops.jsonl", Drop) == [drop(1), drop(2), drop(3)]


def test_partial_records_of_a_missing_file_are_none(tmp_path: Path) -> None:
    assert make_run(tmp_path).stage(Stage.SYNTHESIZE).read_partial("drops.jsonl", Drop) == []


def test_opening_what_is_not_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        RunDirectory.open(tmp_path)
    assert caught.value.message == f"{tmp_path}: not a run (no run.yaml)"
    assert caught.value.next_step == "taskdef run task.yaml"


@pytest.mark.parametrize("content", ["definition: [", "7\n", "config: {}\n", "definition: {}\nconfig: {}\n", ""])
def test_a_damaged_run_file_says_so(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path)
    (run.path / "run.yaml").write_text(content)
    with pytest.raises(RunError, match="damaged"):
        RunDirectory.open(run.path)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="is not empty and not a run") as caught:
        make_run(tmp_path)
    assert caught.value.next_step == "choose another name with --name"
    assert os.listdir(tmp_path / "run") == ["thesis.tex"]


def test_a_missing_artifact_names_the_stage_to_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(RunError, match="the stage synthesize has not been run") as caught:
        run.stage(Stage.SYNTHESIZE).read_records("samples.jsonl", Drop)
    assert caught.value.next_step == f"taskdef synthesize {run.path}"


def test_a_command_to_copy_quotes_the_path(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "my run", DEFINITION, RunConfig())
    with pytest.raises(RunError) as caught:
        run.stage(Stage.SYNTHESIZE).manifest()
    assert caught.value.next_step == f"taskdef run '{run.path}'"


def test_a_damaged_artifact_names_the_way_to_redo_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    finish(run, Stage.SYNTHESIZE, "not json\n")
    for read in (
        lambda: run.stage(Stage.SYNTHESIZE).read_records("a.json", Drop),
        lambda: run.stage(Stage.SYNTHESIZE).read_json("a.json"),
    ):
        with pytest.raises(RunError, match=r"a\.json: damaged") as caught:
            read()
        assert caught.value.next_step == f"taskdef run {run.path} --fresh synthesize"


def test_a_changed_setting_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    changed = build_config(overrides={"select.size": "9", "train.batch": "2"})
    with pytest.raises(ConfigError) as caught:
        RunDirectory.create(run.path, DEFINITION, changed)
    assert caught.value.message == f"{run.path}: this run was started with other values of: select.size, train.batch"
    assert caught.value.next_step == "a new run with --name NAME, or --fresh select to redo this one from there"


def test_a_changed_definition_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(ConfigError, match=r"other values of: definition\.description"):
        RunDirectory.create(run.path, DEFINITION.model_copy(update={"description": "Subtract."}), RunConfig())


def test_how_calls_are_made_may_change(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    RunDirectory.create(run.path, DEFINITION, build_config(overrides={"instruct.concurrency": "2"}))


def test_a_new_test_set_matters_from_the_samples_on(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    other = DEFINITION.model_copy(update={"test": HeldOut(path=Path("test.jsonl"))})
    assert changed_keys(run, other, RunConfig()) == ["definition.test"]
    with pytest.raises(ConfigError) as caught:
        run.refuse_changes(other, RunConfig())
    assert "--fresh synthesize" in (caught.value.next_step or "")


def test_a_run_that_another_process_works_on_is_refused_and_free_after_a_kill(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    code = (
        "import pathlib, sys, time\n"
        "from taskdef.store import RunDirectory\n"
        "with RunDirectory.open(pathlib.Path(sys.argv[1])).locked():\n"
        "    print('locked', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        for work in (
            lambda: taskdef.run(DEFINITION, RunConfig(), path=run.path),
            lambda: taskdef.run(DEFINITION, RunConfig(), path=run.path, fresh=Stage.RETRIEVE),
            lambda: run_stage(run, Stage.RETRIEVE),
        ):
            with pytest.raises(RunError) as caught:
                work()
            assert caught.value.message == f"{run.path}: is being worked on by another process ({other.pid})"
            assert caught.value.next_step == f"wait until it ends, or stop it, then: taskdef run {run.path}"
        other.kill()
    with run.locked():
        assert (run.path / ".lock").read_text() == f"{os.getpid()}\n"


def test_fresh_removes_from_that_stage_on_and_keeps_what_was_paid(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for stage in STAGES:
        finish(run, stage)
    run.model_path.mkdir()
    run.ledger_path.write_bytes(b"paid")
    run.report_path.write_text("report")
    run.analysis_path.parent.mkdir()
    run.analysis_path.write_text("{}")
    run.fresh_from(Stage.TRAIN)
    assert run.analysis_path.exists()  # of samples that stay
    run.fresh_from(Stage.SELECT)
    assert not run.analysis_path.exists()
    assert [directory.stage for directory in run.stages() if directory.is_done()] == list(STAGES[:3])
    assert (run.model_path.exists(), run.report_path.exists(), run.ledger_path.exists()) == (False, False, True)


def test_fresh_says_so_where_something_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    finish(run, Stage.EVALUATE)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root, as whom tests may run, is refused nothing

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(PermissionError):
            run.fresh_from(Stage.EVALUATE)
    assert not run.stage(Stage.EVALUATE).path.exists()  # half-removed, but not under its name
    run.fresh_from(Stage.EVALUATE)
    assert sorted(os.listdir(run.path)) == ["run.yaml"]


def test_fresh_from_the_evaluation_keeps_the_model(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.model_path.mkdir()
    run.fresh_from(Stage.EVALUATE)
    assert run.model_path.exists()


def test_fresh_takes_a_changed_setting_from_the_stage_it_matters_in(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    changed = build_config(overrides={"select.size": "9"})
    with pytest.raises(ConfigError, match=r"select\.size changed, and already mattered before train") as caught:
        run.reconfigure(DEFINITION, changed, fresh=Stage.TRAIN)
    assert caught.value.next_step == "--fresh select"
    run.reconfigure(DEFINITION, changed, fresh=Stage.SELECT)
    assert RunDirectory.open(run.path).config.select.size == 9


def test_a_stages_digest_depends_on_its_own_and_earlier_settings_only(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    other = RunDirectory(run.path, DEFINITION, build_config(overrides={"select.size": "9"}))
    same = [stage for stage in STAGES if run.settings_digest(stage) == other.settings_digest(stage)]
    assert same == [Stage.RETRIEVE, Stage.SYNTHESIZE, Stage.ADAPT]


def test_every_setting_matters_in_one_stage_but_those_that_change_no_result() -> None:
    stages = {
        key: [stage for stage, prefixes in STAGE_SETTINGS.items() if key.startswith(prefixes)] for key in known_keys()
    }
    assert all(len(found) <= 1 for found in stages.values())
    undecided = {key.split(".")[0] for key, found in stages.items() if not found}
    assert undecided == {"profile", "instruct"}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_atomically(target, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(target, "n\ud800w")  # a lone surrogate cannot be encoded: the write fails half-way
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_kill_while_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_atomically(target, json.dumps([0] * 1000))
    writer = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(target,))
    writer.start()
    deadline = time.monotonic() + 20
    while json.loads(target.read_text())[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join()
    content = json.loads(target.read_text())
    assert content == [content[0]] * 1000
    assert content[0] > 0


def _write_for_ever(target: Path) -> None:
    number = 0
    while True:
        number += 1
        write_atomically(target, json.dumps([number] * 1000))


@pytest.mark.parametrize("address", ["http://user:word@h/v1", "https://h/v1?key=word", "https://h/v1#word"])
def test_an_address_that_may_hold_a_secret_is_never_written(tmp_path: Path, address: str) -> None:
    config = RunConfig(instructor=f"openai:m@{address}")
    with pytest.raises(ConfigError, match="which would be recorded") as stop:
        RunDirectory.create(tmp_path / "run", DEFINITION, config)
    assert "word" not in str(stop.value).replace("password", "")
    assert list((tmp_path / "run").iterdir()) == []
