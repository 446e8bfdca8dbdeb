"""`taskdef show`: where a run stands, also into pipes that close and terminals that lack letters."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskdef.config import build_config
from taskdef.errors import RunError
from taskdef.instruct.budget import Amount
from taskdef.instruct.chat import ChatRequest, Usage
from taskdef.instruct.ledger import Ledger, Settled
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Stage, TaskDefinition
from taskdef.request import open_run
from taskdef.show import closing_lines, counts_text, print_run, spending_text
from taskdef.store import STAGES, RunDirectory

DEFINITION = TaskDefinition(
    name="sums",
    description="Add.",
    output_format="End with #### and the sum.",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    config = build_config(profile="small", overrides={"base_model": "modèle", "instructor": "procedural:chain_sum"})
    return RunDirectory.create(tmp_path / "runs" / "sums", DEFINITION, config)


def finish(run: RunDirectory, stage: Stage, **summary: object) -> None:
    directory = run.stage(stage)
    directory.open()
    if stage is Stage.EVALUATE:
        accuracy = {"correct": 1, "judged": 2, "share": 0.5, "low": 0.0945, "high": 0.9055}
        unmeasured = {"correct": 0, "judged": 0, "share": None, "low": None, "high": None}
        models = {
            "base": {"strict": unmeasured, "lenient": accuracy},
            "tuned": {"strict": accuracy, "lenient": accuracy},
        }
        directory.write_json("evaluation.json", {"rows": 2, "models": models})
    directory.finish(started=time.monotonic(), artifacts=[], summary=summary)


def command(*arguments: str, **options: object) -> "subprocess.CompletedProcess[bytes]":
    code = "from taskdef.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def test_a_run_half_done(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, Stage.RETRIEVE, passages=40)
    finish(run, Stage.SYNTHESIZE, kept=20, dropped={"duplicate": 3, "no_majority": 0, "gold_fails": 2})
    run.stage(Stage.ADAPT).open()
    print_run(run)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{run.path}: sums, modèle, procedural:chain_sum"
    assert lines[1].split() == ["stage", "state", "finished", "(UTC)", "took", "counts"]
    assert lines[2].split()[:3] == ["1", "retrieve", "done"]
    assert lines[2].rstrip().endswith("passages 40")
    assert lines[3].rstrip().endswith("kept 20, dropped: duplicate 3, gold fails 2")
    assert lines[4].split() == ["3", "adapt", "begun"]
    assert lines[5].split() == ["4", "select", "to", "do"]
    assert lines[-2:] == [
        "spent: nothing: the instructor is a program",
        f"next: taskdef run {run.path}   (goes on with adapt)",
    ]


def test_a_finished_run_names_model_report_and_headline(run: RunDirectory) -> None:
    for stage in STAGES:
        finish(run, stage)
    run.report_path.write_text("<html>")
    assert closing_lines(run) == [
        "2 held-out rows:",
        "  base     not measured read strictly, 50.0% (9.4% to 90.5%) leniently",
        "  tuned    50.0% (9.4% to 90.5%) read strictly, 50.0% (9.4% to 90.5%) leniently",
        f"model: {run.model_path}",
        f"report: {run.report_path}",
    ]


def test_all_stages_done_but_no_report(run: RunDirectory) -> None:
    for stage in STAGES:
        finish(run, stage)
    assert closing_lines(run)[-1] == f"next: taskdef report {run.path}"


def test_counts_of_every_kind_on_one_line(run: RunDirectory) -> None:
    finish(
        run,
        Stage.TRAIN,
        spending={"calls": 7},
        warm_up=True,
        reward=0.123456,
        method="grpo",
        note="",
        nothing=None,
        curve=[1, 2],
    )
    assert counts_text(run.stage(Stage.TRAIN).manifest()) == "warm up yes, reward 0.123, method grpo"


def test_spending_is_the_ledgers_sum(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", DEFINITION, build_config(overrides={"instructor": "openai:m"}))
    assert spending_text(run) == "nothing: no instructor call is recorded"
    ledger = Ledger(run.ledger_path)

    async def spend() -> None:
        for number in range(2):
            request = await ledger.open_request(ChatRequest("vote", "What is 1 + 1?", 0.7, 9), 1, Amount(1.0, 500, 1))
            await ledger.settle(request, Settled("done", Usage(100, 10), 0.25, Amount(0.25, 110, 1), 0.5))
            failed = await ledger.open_request(ChatRequest("vote", "What is 1 + 1?", 0.7, 9), 1, Amount(1.0, 500, 1))
            counted = Amount(0.5, 300, 1) if number else Amount(calls=1)
            await ledger.settle(failed, Settled("failed", None, None, counted, 0.5, "timed_out", "no end"))

    asyncio.run(spend())
    ledger.close()
    # 2 of 4 requests answered, 2 x 100 and 2 x 10 tokens, 2 x 0.25 usd; one of the others may have been billed
    assert spending_text(run) == (
        "2 instructor calls, 2 failed tries, 200 tokens read, 20 written, "
        "0.5000 usd (up to 0.5000 more for answers that were lost)"
    )


def test_a_damaged_manifest_is_a_clean_error(run: RunDirectory) -> None:
    finish(run, Stage.RETRIEVE)
    (run.path / "1-retrieve" / "manifest.json").write_text("{")
    done = command("show", str(run.path))
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"error: {run.path}/1-retrieve/manifest.json: damaged")
    assert done.stderr.decode().splitlines()[-1] == f"next: taskdef run {run.path} --fresh retrieve"


def test_a_terminal_that_lacks_letters_gets_question_marks(run: RunDirectory) -> None:
    done = command("show", str(run.path), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"mod?le" in done.stdout


def test_a_pipe_that_closes_early_is_no_error(run: RunDirectory) -> None:
    script = f"{sys.executable} -c 'from taskdef.cli import main; main()' show {run.path} | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60)
    assert done.stderr == b""


def test_a_name_without_its_folder_is_told_where_it_is(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    with pytest.raises(RunError) as caught:
        open_run(Path("sums"))
    assert str(caught.value) == "sums: not a run (no run.yaml)\n  next: give its directory: runs/sums"


@pytest.mark.parametrize("kind", ["missing", "a file", "a folder"])
def test_what_is_not_a_run_is_told_so(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    if kind == "a file":
        path.write_text("name: sums")
    elif kind == "a folder":
        path.mkdir()
    with pytest.raises(RunError) as caught:
        open_run(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.next_step
