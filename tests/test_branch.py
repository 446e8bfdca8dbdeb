"""Methods on the same data: a run beside a run, trained differently from the very same samples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from taskdef.branch import SHARED_STAGES, run_for_method
from taskdef.cli import MethodName, main
from taskdef.config import TrainConfig, build_config
from taskdef.errors import ConfigError, RunError
from taskdef.records import PassRate, Sample, Stage, TaskDefinition, WarmUp
from taskdef.store import RunDirectory

SETTINGS: dict[str, Any] = {
    "instructor": "procedural:sums",
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 8,
    "train.sft.batch": 4,
    "train.sft.epochs": 1,
}


@pytest.fixture
def scored(tmp_path: Path, sums: TaskDefinition, sum_samples: list[Sample], tiny_llama: Path) -> RunDirectory:
    """A run that has chosen its samples and done nothing since."""
    config = build_config(overrides=SETTINGS | {"base_model": str(tiny_llama)})
    run = RunDirectory.create(tmp_path / "sums", sums, config)
    for stage in SHARED_STAGES:
        run.stage(stage).open()
    run.stage(Stage.ADAPT).write_json("warm_up.json", WarmUp(done=False, reason="").model_dump(mode="json"))
    run.stage(Stage.SELECT).write_records("selected.jsonl", sum_samples)
    run.stage(Stage.SELECT).write_records("pass_rates.jsonl", [PassRate(sample_id="s0", attempts=20, correct=0)])
    run.stage(Stage.RETRIEVE).write_json("retrieval.json", {})
    run.stage(Stage.RETRIEVE).write_records("passages.jsonl", [])
    run.stage(Stage.SYNTHESIZE).write_json("pattern.json", {})
    for stage in (Stage.SYNTHESIZE, Stage.ADAPT):
        run.stage(stage).write_records("samples.jsonl", sum_samples)
        run.stage(stage).write_records("drops.jsonl", [])
    for stage in SHARED_STAGES:
        names = [path.name for path in run.stage(stage).path.iterdir()]
        run.stage(stage).finish(started=0, artifacts=names, summary={})
    return run


def test_another_method_gets_a_run_beside_with_the_same_samples(scored: RunDirectory) -> None:
    branch = run_for_method(scored, {"train.method": "sft", "train.sft.epochs": 2})
    assert branch.path == scored.path.with_name("sums-sft")
    assert (branch.config.train.method, branch.config.train.sft.epochs) == ("sft", 2)
    assert branch.next_stage() is Stage.TRAIN
    for stage in SHARED_STAGES:
        assert branch.stage(stage).manifest() == scored.stage(stage).manifest()
    assert scored.next_stage() is Stage.TRAIN
    assert scored.config.train.method == "grpo"
    again = run_for_method(scored, {"train.method": "sft", "train.sft.epochs": 2})
    assert again.path == branch.path


def test_the_runs_own_method_is_the_run_itself(scored: RunDirectory) -> None:
    assert run_for_method(scored, {"train.method": "grpo"}).path == scored.path
    with pytest.raises(ConfigError, match=r"other values of: train\.batch"):
        run_for_method(scored, {"train.batch": 2})


def test_held_out_attempts_of_the_base_model_go_along(scored: RunDirectory) -> None:
    done = scored.stage(Stage.EVALUATE)
    done.open()
    for name in ("base", "tuned"):
        (done.path / f"attempts-{name}.jsonl").write_text("")
    done.finish(started=0, artifacts=[], summary={})
    branch = run_for_method(scored, {"train.method": "sft"})
    assert [path.name for path in branch.stage(Stage.EVALUATE).path.iterdir()] == ["attempts-base.jsonl"]


def test_a_branch_whose_run_was_redone_is_refused(scored: RunDirectory, sum_samples: list[Sample]) -> None:
    run_for_method(scored, {"train.method": "sft"})
    scored.fresh_from(Stage.SELECT)
    selected = scored.stage(Stage.SELECT)
    selected.open()
    selected.write_records("selected.jsonl", sum_samples[1:])
    selected.finish(started=0, artifacts=["selected.jsonl"], summary={})
    with pytest.raises(RunError) as raised:
        run_for_method(scored, {"train.method": "sft"})
    assert str(raised.value) == (
        f"{scored.path}-sft: has the stage select of an earlier state of {scored.path}, which was redone since\n"
        f"  next: remove {scored.path}-sft, or keep it under another name"
    )


def test_settings_of_earlier_stages_and_unfinished_runs_are_refused(scored: RunDirectory) -> None:
    with pytest.raises(ConfigError) as raised:
        run_for_method(scored, {"train.method": "sft", "select.size": 3, "seed": 4})
    assert str(raised.value) == (
        "seed, select.size: belongs to an earlier stage, and only train.* can differ on the same data\n"
        "  next: a new run with --name NAME"
    )
    scored.fresh_from(Stage.SELECT)
    with pytest.raises(RunError, match="the stage select has not been run"):
        run_for_method(scored, {"train.method": "sft"})
    assert not scored.path.with_name("sums-sft").exists()


def test_the_command_trains_the_run_beside(
    scored: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(scored.path)
    arguments = ["train", ".", "--method", "sft", "--set", "train.sft.epochs=2"]
    monkeypatch.setattr(sys, "argv", ["taskdef", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("train: done in ")
    assert "method sft, steps 6, solutions 12" in said[0]
    assert said[1].startswith("note: Only 12 samples could be selected; 500 were asked for.")
    assert said[2].startswith("  remedy: Ask for more initial samples")
    assert said[3] == "note: No sample was solved in any scored attempt, so selection could not tell them apart."
    assert said[-1] == f"next: taskdef run {scored.path}-sft"
    assert (scored.path.with_name("sums-sft") / "model" / "config.json").exists()
    assert not scored.stage(Stage.TRAIN).is_done()


def test_the_command_knows_every_method() -> None:
    assert get_args(MethodName) == get_args(TrainConfig.model_fields["method"].annotation)


@pytest.mark.parametrize(
    ("settings", "steps", "rollouts"),
    [
        ({"method": "grpo", "batch": 4, "completions": 2, "epochs": 1}, 5, 40),
        ({"method": "sft", "sft": {"batch": 8, "epochs": 2}}, 6, 0),  # 20 solutions are three steps of at most 8
        ({"method": "rft", "rft": {"attempts": 10, "most_solutions": 3}, "sft": {"batch": 8, "epochs": 1}}, 10, 200),
        ({"method": "dpo", "dpo": {"attempts": 6, "pairs": 2, "batch": 8, "epochs": 3}}, 15, 120),
        ({"method": "dpo", "dpo": {"attempts": 6, "max_steps": 7}}, 7, 120),
        # 2 wrong responses of 3 steps a sample: 1 + 6 prefixes of 10 rollouts; 40 pairs
        (
            {
                "method": "stepwise",
                "stepwise": {"rollouts": 10, "wrong_responses": 2, "most_steps": 3},
                "dpo": {"batch": 8, "epochs": 1},
            },
            5,
            1400,
        ),
    ],
)
def test_most_steps_and_rollouts_of_twenty_samples(settings: dict[str, Any], steps: int, rollouts: int) -> None:
    train = TrainConfig.model_validate(settings)
    assert (train.most_steps(20), train.most_rollouts(20)) == (steps, rollouts)
