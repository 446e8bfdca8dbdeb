"""`taskdef analyze` as the command line has it."""

from pathlib import Path

import pytest
from finished_run import build_finished_run

from taskdef import cli
from taskdef.analyze import run as analysis
from taskdef.errors import ConfigError, RunError
from taskdef.store import RunDirectory


def test_human_data_goes_with_one_run(tmp_path: Path) -> None:
    runs = [build_finished_run(tmp_path / name).path for name in ("a", "b")]
    with pytest.raises(ConfigError) as raised:
        cli.analyze(runs, human=tmp_path / "human.jsonl")
    assert str(raised.value) == (f"--human: goes with one run\n  next: taskdef analyze {runs[0]} --human FILE")


def test_several_runs_are_compared_in_the_first_ones_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [build_finished_run(tmp_path / name).path for name in ("a", "b")]
    asked: list[object] = []

    def compare(opened: list[RunDirectory], folder: Path) -> list[Path]:
        asked.extend([[run.path for run in opened], folder])
        return []

    monkeypatch.setattr(analysis, "compare_runs", compare)
    cli.analyze(runs)
    assert asked == [runs, runs[0] / "analysis"]


def test_one_run_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = build_finished_run(tmp_path / "a")
    asked = {}

    def describe(*given: object, **named: object) -> list[Path]:
        asked.update(named, folder=given[1], human=given[2])
        return [tmp_path / "figure.svg"]

    monkeypatch.setattr(analysis, "describe_run", describe)
    cli.analyze([run.path], human=Path("human.jsonl"), rows=7, attempts=0, out=tmp_path / "out")
    assert (asked["folder"], asked["human"], asked["rows"], asked["attempts"]) == (
        tmp_path / "out",
        Path("human.jsonl"),
        7,
        0,
    )
    assert capsys.readouterr().out == f"{tmp_path / 'figure.svg'}\n"


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run \(no run\.yaml\)"):
        cli.analyze([tmp_path])
