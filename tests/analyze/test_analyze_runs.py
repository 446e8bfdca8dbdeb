"""Runs side by side."""

from pathlib import Path

import pytest
from finished_run import build_finished_run

from taskdef.analyze.dynamics import distinct_names, mean_of_last_tenth, read_dynamics
from taskdef.analyze.run import compare_runs
from taskdef.errors import RunError
from taskdef.records import Stage


def test_runs_are_told_apart_by_as_much_of_their_paths_as_that_takes(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "sums", tmp_path / "b" / "sums", tmp_path / "b" / "other"]
    assert distinct_names(paths) == ["a/sums", "b/sums", "other"]


def test_a_curve_ends_at_the_mean_of_its_last_tenth() -> None:
    assert mean_of_last_tenth([(step, float(step)) for step in range(1, 21)]) == 19.5
    assert mean_of_last_tenth([(1, 3.0)]) == 3.0


def test_two_runs_are_drawn_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [build_finished_run(tmp_path / name, seed=seed) for seed, name in enumerate(("first", "second"))]
    files = compare_runs(runs, tmp_path / "figures")
    assert sorted(file.name for file in files) == [
        "accuracy.pdf",
        "accuracy.svg",
        "training-dynamics.pdf",
        "training-dynamics.svg",
    ]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    # rewards of steps 19 and 20: 0.58 and 0.60, and 0.05 more with seed 1
    assert lines[1][:4] == ["first", "grpo", "20", "0.59"]
    assert lines[2][:4] == ["second", "grpo", "20", "0.64"]
    assert ["first", "Tuned", "model", "50.0%", "35.2%", "to", "64.8%"] in lines


def test_a_run_that_was_not_trained_cannot_be_compared(tmp_path: Path) -> None:
    run = build_finished_run(tmp_path / "sums", until=Stage.SELECT)
    with pytest.raises(RunError) as raised:
        read_dynamics([run])
    assert str(raised.value) == f"{run.path}: has logged no step of training\n  next: taskdef train {run.path}"
