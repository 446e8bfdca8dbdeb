"""The forms that rows are exported in, and what is said where they cannot be."""

import json
from pathlib import Path

import pytest
from finished_run import build_finished_run

from taskdef.cli import FormatName
from taskdef.errors import ConfigError, RunError
from taskdef.export.formats import FORMATS, Choices, export_run
from taskdef.records import Stage
from taskdef.store import RunDirectory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_chat_llama: Path) -> RunDirectory:
    return build_finished_run(tmp_path_factory.mktemp("export") / "sums", model=tiny_chat_llama)


def exported(run: RunDirectory, name: str, folder: Path, **choices: str) -> list[dict[str, object]]:
    export_run(run, name, folder / "out.jsonl", Choices(**choices))  # type: ignore[arg-type]
    return [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_command_line_knows_every_form() -> None:
    assert list(FormatName.__args__) == list(FORMATS)  # type: ignore[attr-defined]


def test_prompts_are_asked_as_the_model_is(run: RunDirectory, tmp_path: Path) -> None:
    rows = exported(run, "prompts", tmp_path)
    assert [row["sample_id"] for row in rows] == ["s01", "s02", "s03", "s05", "s06", "s07", "s00-harder", "s02-harder"]
    assert rows[0] == {
        "prompt": [{"role": "user", "content": "1 + 2?\n\nEnd with #### and the number."}],
        "answer": "3",
        "solution": "1 + 2 = 3\n#### 3",
        "sample_id": "s01",
    }


def test_plain_prompts_end_as_they_do_in_training(run: RunDirectory, tmp_path: Path) -> None:
    row = exported(run, "prompt-completion", tmp_path, style="plain")[0]
    assert row["prompt"] == "1 + 2?\n\nEnd with #### and the number.\n"
    assert row["completion"] == "1 + 2 = 3\n#### 3"


def test_without_a_chat_template_prompts_are_plain(tmp_path: Path, tiny_llama: Path) -> None:
    run = build_finished_run(tmp_path / "sums", model=tiny_llama)
    assert isinstance(exported(run, "prompts", tmp_path)[0]["prompt"], str)


def test_all_samples_can_be_asked_for(run: RunDirectory, tmp_path: Path) -> None:
    rows = exported(run, "messages", tmp_path, samples="all")
    assert len(rows) == 15
    assert rows[0]["messages"][1] == {"role": "assistant", "content": "0 + 1 = 1\n#### 1"}  # type: ignore[index]


def test_pairs_are_made_of_the_attempts_that_scoring_made(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = exported(run, "preference", tmp_path, style="plain")
    ends = {str(row["chosen"]).rpartition("#### ")[2] for row in rows if row["sample_id"] == "s01"}
    assert ends == {"3"}
    assert all(str(row["rejected"]).rpartition("#### ")[2] != "3" for row in rows if row["sample_id"] == "s01")
    assert capsys.readouterr().out.startswith(f"wrote {len(rows)} pairs to ")


def test_no_pair_is_an_error_with_its_reasons(tmp_path: Path) -> None:
    run = build_finished_run(tmp_path / "sums", until=Stage.SELECT)
    (run.stage(Stage.SELECT).path / "attempts.jsonl").write_text("")
    with pytest.raises(RunError) as raised:
        export_run(run, "preference", tmp_path / "x.jsonl")
    assert str(raised.value) == (
        f"{run.path}: the attempts on 8 samples give no pair (samples never wrong 8)\n"
        f"  next: taskdef train {run.path} --method dpo, which makes more attempts"
    )
    assert not (tmp_path / "x.jsonl").exists()


def test_verl_columns_have_their_types(run: RunDirectory, tmp_path: Path) -> None:
    import pyarrow.parquet

    export_run(run, "verl", tmp_path / "train.parquet", Choices(data_source="openai/gsm8k"))
    row = pyarrow.parquet.read_table(tmp_path / "train.parquet").to_pylist()[0]
    assert row == {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": "1 + 2?\n\nEnd with #### and the number."}],
        "ability": "sums",
        "reward_model": {"style": "rule", "ground_truth": "3"},
        "extra_info": {
            "split": "train",
            "index": 0,
            "sample_id": "s01",
            "question": "1 + 2?",
            "answer": "1 + 2 = 3\n#### 3",
            "origin": "initial",
            "domain": "small",
            "pass_rate": 0.25,
        },
    }


def test_rows_go_to_stdout(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    export_run(run, "prompts", None)
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 8


@pytest.mark.parametrize(
    ("name", "out", "choices", "message"),
    [
        ("verl", None, {}, "--to verl: needs a file that ends in .parquet\n  next: taskdef export {run} --to verl OUT"),
        ("dataset", None, {}, "--to dataset: needs a folder\n  next: taskdef export {run} --to dataset OUT"),
        ("verl", "x.json", {}, "x.json: verl is Parquet\n  next: name it x.parquet"),
        (
            "messages",
            "x.jsonl",
            {"style": "plain"},
            "--style plain: --to messages has no such choice\n"
            "  next: it goes with: prompts, prompt-completion, preference",
        ),
        ("prompts", "x.jsonl", {"push": "me/x"}, "--push me/x: --to prompts has no such choice\n"
         "  next: it goes with: dataset, model"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(
    run: RunDirectory, name: str, out: str | None, choices: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        export_run(run, name, Path(out) if out else None, Choices(**choices))  # type: ignore[arg-type]
    assert str(raised.value) == message.format(run=run.path)


@pytest.mark.parametrize("name", ["prompts", "verl", "dataset"])
def test_nothing_is_overwritten(run: RunDirectory, tmp_path: Path, name: str) -> None:
    out = tmp_path / "there.parquet"
    out.write_text("kept")
    with pytest.raises(
        RunError, match=r"there\.parquet: cannot be written: File exists\n  next: name a file or folder"
    ):
        export_run(run, name, out)
    assert out.read_text() == "kept"


def test_a_run_that_has_no_training_set_says_what_to_do(tmp_path: Path) -> None:
    run = build_finished_run(tmp_path / "sums", until=Stage.ADAPT)
    with pytest.raises(RunError, match=r"missing; the stage select has not been run\n  next: taskdef select "):
        export_run(run, "prompts", None)
    with pytest.raises(RunError, match=r"the stage select has not been run\n  next: taskdef run "):
        export_run(run, "dataset", tmp_path / "data")


def test_steps_need_a_run_that_made_them(run: RunDirectory) -> None:
    with pytest.raises(RunError) as raised:
        export_run(run, "stepwise", None)
    assert str(raised.value) == (
        f"{run.path}: steps are known where train.method=stepwise is done, and this run's is grpo\n"
        f"  next: taskdef train {run.path} --method stepwise"
    )
