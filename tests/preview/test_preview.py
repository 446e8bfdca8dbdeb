"""`taskdef preview`: what it prints, what the run that follows takes over, and how it ends badly."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskdef.cli import main
from taskdef.instruct.ledger import Ledger

TASK = """\
name: sums
description: Add two whole numbers.
input_format: A question.
output_format: End with "####" and the sum.
answer: {read: number_after_marker, compare: numeric}
demos:
  - {input: "What is 1 + 1?", output: "1 + 1 = 2 #### 2"}
passages: [{path: library.txt}]
test: {path: test.jsonl}
"""
DRAFTS = [
    {"input": "What is 31 plus 4?", "output": "31 plus 4 is 35.\n#### 35"},
    {"input": "What is 52 minus 7?", "output": "#### 45"},
    "I would rather \x1b[31mnot.",
    {"input": "Take 8 from 90.", "output": "#### 82"},
    {"input": "How much are 12 and 13 together?", "output": "#### 25"},
    {"input": "Add 60 to 39 and say what it makes.", "output": "#### 99"},
]
SCRIPT: list[dict[str, object]] = [
    {"purpose": "keywords", "response": '{"keywords": ["numbers"]}'},
    {"purpose": "pattern", "response": "A sum in words."},
    {"purpose": "generate", "responses": [d if isinstance(d, str) else json.dumps(d) for d in DRAFTS]},
    {"purpose": "answer", "match": "31 plus", "responses": ["#### 35", "#### 35", "#### 36", "thirty-five"]},
    {"purpose": "answer", "match": "52 minus", "response": "#### 45"},
    {"purpose": "answer", "match": "8 from", "responses": ["#### 82", "#### 1", "#### 2", "#### 3"]},
    {"purpose": "answer", "match": "12 and 13", "response": "#### 25"},
    {"purpose": "answer", "match": "60 to 39", "response": "#### 99"},
    {"purpose": "easier", "match": "31 plus", "response": '{"input": "What is 1 plus 4?", "output": "#### 5"}'},
    {"purpose": "easier", "response": '{"input": "Count from 5 to 9: how far?", "output": "#### 4"}'},
    {"purpose": "answer", "match": "1 plus 4", "response": "#### 5"},
    {"purpose": "answer", "match": "from 5 to 9", "response": "#### 4"},
]
Cli = Callable[..., tuple[int, str, str]]
OPTIONS = (
    *("task.yaml", "--profile", "small", "--instructor", "scripted:script.jsonl"),
    *("--set", "policy.max_new_tokens=6", "--set", "policy.device=cpu", "--set", "policy.dtype=float32"),
)


def write_script(folder: Path, lines: list[dict[str, object]]) -> None:
    (folder / "script.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task, its script, and a cache of its own, in the current folder."""
    (tmp_path / "task.yaml").write_text(TASK)
    (tmp_path / "library.txt").write_text("\n\n".join(f"Numbers {n} and {n + 1} are added." for n in range(9)))
    rows = [{"input": f"Held out: {n} + 3?", "output": f"#### {n + 3}"} for n in range(4)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_script(tmp_path, SCRIPT)
    monkeypatch.setenv("TASKDEF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_llama: Path) -> Cli:
    """``preview`` or ``run`` with OPTIONS and more; gives exit code, stdout, stderr."""

    def call(verb: str, *more: str, base_model: str = str(tiny_llama)) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["taskdef", verb, *OPTIONS, "--base-model", base_model, *more])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return call


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_preview_shows_every_sample_on_its_way_and_the_full_run(cli: Cli, folder: Path) -> None:
    before = files(folder)
    code, out, err = cli("preview", "--samples", "3", "--set", "synthesize.samples=40")
    assert (code, "Traceback" in err) == (0, False), err
    lines = out.splitlines()
    assert lines[:3] == ["keywords  numbers", "passages  1", "pattern   A sum in words."]
    first = lines[lines.index("draft s00000") :]
    assert first[1].startswith("  passage     ")
    assert first[2] == "  question    What is 31 plus 4?"
    assert "  votes       35 x3, 36 x1, unreadable x1" in first[4:6]  # after a solution of one line, or of two
    assert "  label       35 (3 of 4)" in first[5:7]
    text = "\n".join(lines)
    assert "  base model  " in text
    assert " of 4 attempts at 0.7 correct" in text
    assert "  easier      What is 1 plus 4?" in text
    assert "  dropped     unparseable: " in text
    assert "I would rather \N{REPLACEMENT CHARACTER}[31mnot." in text
    assert "\x1b" not in out
    assert "  dropped     no_majority: 2 of 5 votes for the most frequent answer '82'" in text
    assert "  votes       82 x2, 1 x1, 2 x1, 3 x1" in text
    assert "  drafts labelled by the vote           3 of 4      75%" in lines
    assert "  drafts in all                         3 of 5      60%" in lines
    assert "cost unknown: no price for this model" in text
    assert any(line.startswith("instructor calls ") for line in lines)
    assert any(line.startswith("cost (usd) ") and "unknown" in line for line in lines)
    assert any(line.startswith("base model time  ") for line in lines)
    left = files(folder) - before
    assert {name for name in left if not name.startswith("cache/")} == {"runs/sums-preview.sqlite"}


def test_the_run_that_follows_asks_nothing_that_was_previewed(cli: Cli, folder: Path) -> None:
    more = ("--set", "synthesize.samples=4", "--set", "warm_up.mode=never")
    assert cli("preview", "--samples", "4", *more)[0] == 0
    with contextlib.closing(Ledger(folder / "runs" / "sums-preview.sqlite", read_only=True)) as ledger:
        previewed = ledger.totals()
        keys = {call["key"] for call in ledger.calls()}
    assert previewed.calls > 10

    code, _, err = cli("run", "--until", "adapt", *more)
    assert code == 0, err
    with contextlib.closing(Ledger(folder / "runs" / "sums" / "ledger.sqlite", read_only=True)) as ledger:
        followed = ledger.totals()
        assert {call["key"] for call in ledger.calls()} == keys
    assert (followed.requests, followed.from_cache) == (0, previewed.responses)


def test_a_second_preview_asks_only_for_what_is_new(cli: Cli, folder: Path) -> None:
    assert cli("preview", "--samples", "1")[0] == 0
    _, out, _ = cli("preview", "--samples", "1")
    assert "asked now: nothing; every answer was known" in out
    _, out, _ = cli("preview", "--samples", "2")
    assert "asked now: " in out
    assert "the previews in all: " in out


def test_a_program_as_instructor_costs_nothing(cli: Cli, folder: Path) -> None:
    code, out, err = cli("preview", "--samples", "2", "--instructor", "procedural:chain_sum(level.num_terms=0)")
    assert code == 0, err
    assert "(right by construction)" in out
    assert "instructor calls" not in out
    assert "base model time" in out
    assert not (folder / "runs").exists()


def test_an_instructor_that_writes_no_sample_is_shown_with_its_words(cli: Cli, folder: Path) -> None:
    write_script(folder, [*SCRIPT[:2], {"purpose": "generate", "response": "As a poet, I sing of numbers."}])
    code, out, err = cli("preview", "--samples", "2")
    assert code == 2
    assert out.count("As a poet, I sing of numbers.") == 4
    assert "the full run" not in out
    assert err.endswith(
        "error: scripted:script.jsonl: none of 4 drafts became a sample (4 unparseable)\n"
        "next: see above what was written; another instructor, or --set instruct.force_form=true where the server "
        "holds its model to a JSON schema\n"
    )


def test_the_budget_ends_a_preview_cleanly(cli: Cli, folder: Path) -> None:
    code, out, err = cli("preview", "--samples", "3", "--budget", "4calls")
    assert code == 2
    assert "error: the budget of 4 calls is used up: " in err
    assert err.endswith("next: repeat the command with a higher --budget\n")
    assert out.startswith("keywords  numbers\n")
    assert "the full run" not in out
    code, out, err = cli("preview", "--samples", "3", "--budget", "100calls")
    assert code == 0, err
    with contextlib.closing(Ledger(folder / "runs" / "sums-preview.sqlite", read_only=True)) as ledger:
        assert ledger.totals().calls == sum(1 for _ in ledger.calls()) - 3 * _voted(ledger)


def _voted(ledger: Ledger) -> int:
    """Inputs that were voted on: four answers from one call."""
    return sum(call["purpose"] == "answer" for call in ledger.calls()) // 4


def test_faults_are_told_before_anything_is_asked(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(folder)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, out, err = cli("preview", "--instructor", "openai:gpt-4o")
    assert (code, out) == (2, "")
    assert "OPENAI_API_KEY is not set" in err
    code, out, err = cli("preview", base_model="./nowhere")
    assert (code, out) == (2, "")
    assert "./nowhere: no such folder" in err
    (folder / "task.yaml").write_text(TASK.replace("output_format", "out_format"))
    code, out, err = cli("preview")
    assert (code, out) == (2, "")
    assert "task.yaml" in err
    assert "out_format" in err
    assert files(folder) - before == set()


def test_two_previews_of_one_run_at_once_are_refused(cli: Cli, folder: Path) -> None:
    import fcntl

    path = folder / "runs" / "sums-preview.sqlite"
    path.parent.mkdir()
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = cli("preview")
    assert code == 2
    assert err.endswith(
        "error: runs/sums-preview.sqlite: another preview is at work on it\n"
        "next: wait until it ends, or take another --name\n"
    )


@pytest.mark.slow
def test_ctrl_c_ends_it_with_one_line(folder: Path, tiny_llama: Path) -> None:
    words = [sys.executable, "-c", "from taskdef.cli import main; main()", "preview", *OPTIONS]
    words += ["--base-model", str(tiny_llama), "--set", "policy.max_new_tokens=1000", "--samples", "4"]
    process = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(("attempt samples: 0/", "score: 0/")):
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert rest.endswith("stopped; what is finished is on disk\nnext: repeat the same command\n")
    assert "Traceback" not in rest


def test_a_run_in_batches_is_not_promised_at_the_previews_price_or_pace(capsys: pytest.CaptureFixture[str]) -> None:
    from taskdef.config import build_config
    from taskdef.preview.projection import Seen, project
    from taskdef.preview.take import Preview
    from taskdef.preview.text import print_preview
    from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, TaskDefinition

    answer = AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC)
    definition = TaskDefinition(name="sums", description="Add.", output_format="####", answer=answer)
    config = build_config()
    projection = project(Seen(1, 1, 1, 0, 0, 0), None, config)
    print_preview(Preview(definition, config, in_batches=True, projection=projection))
    out = capsys.readouterr().out
    assert "the run asks in batches (instruct.batch): answers within a day, at a lower price than these\n" in out
