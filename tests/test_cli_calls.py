"""What a run's instructor calls come to, as a user sees it: the budget's end, show --calls, export --calls."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from taskdef.cli import main; main()", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Three drafts and their votes wanted, under a cap of four calls."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "task.yaml").write_text(
        "name: sums\ndescription: Add two numbers.\noutput_format: 'End with #### and the number.'\n"
        "answer: {read: number_after_marker, compare: numeric}\n",
        encoding="utf-8",
    )
    drafts = [json.dumps({"input": f"What is {n} + 1?", "output": f"#### {n + 1}"}) for n in (10, 25, 47)]
    lines = [
        {"purpose": "generate", "responses": drafts},
        *({"purpose": "answer", "match": f"{n} + 1", "response": f"#### {n + 1}"} for n in (10, 25, 47)),
    ]
    (folder / "script.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder, go(folder, "--budget", "4calls")


def go(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return command(
        *("run", "task.yaml", "--instructor", "scripted:script.jsonl", "--base-model", "builtin:smollm2-135m"),
        *(
            "--profile",
            "small",
            "--until",
            "synthesize",
            "--set",
            "synthesize.samples=3",
            "--set",
            "synthesize.votes=2",
        ),
        *words,
        cwd=folder,
    )


def test_at_the_cap_a_run_stops_and_says_what_is_left_and_how_to_go_on(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, stopped = run
    assert stopped.returncode == 2
    *_, fault, following = stopped.stderr.strip().splitlines()
    assert fault == (
        "error: the budget of 4 calls is used up: 0 tokens in 4 calls so far, and the next call may take "
        f"{fault.partition('may take ')[2].partition(' tokens')[0]} tokens. Everything paid for is kept. "
        "Left undone: the rest of synthesize; adapt, select, train, evaluate"
    )
    assert following == "next: taskdef run runs/sums --budget MORE, where MORE is above 4calls"

    more = go(folder, "--budget", "6calls")
    assert more.returncode == 0, more.stderr
    shown = command("show", "runs/sums", "--calls", cwd=folder).stdout.splitlines()
    assert [line.split()[:2] for line in shown[1:3]] == [["generate", "3"], ["answer", "6"]]
    assert shown[-1] == "spent: 6 instructor calls, 0 tokens read, 0 written, cost unknown: no price for this model"

    exported = command("export", "runs/sums", "--calls", cwd=folder)
    calls = [json.loads(line) for line in exported.stdout.splitlines()]
    assert sorted((call["purpose"], call["sample_index"]) for call in calls) == [
        *(("answer", index) for index in (0, 0, 0, 1, 1, 1)),
        *(("generate", index) for index in (0, 1, 2)),
    ]
    written = command("export", "runs/sums", "--calls", "calls.jsonl", cwd=folder)
    assert written.stdout == "wrote 9 calls to calls.jsonl\n"
    assert (folder / "calls.jsonl").read_text(encoding="utf-8") == exported.stdout
    assert command("export", "runs/sums", "--to", "calls", cwd=folder).stdout == exported.stdout
    both = command("export", "runs/sums", "--calls", "--to", "verl", cwd=folder)
    assert (both.returncode, both.stderr.splitlines()[0]) == (2, "error: --calls and --to verl: one form at a time")
    neither = command("export", "runs/sums", cwd=folder)
    assert (neither.returncode, neither.stderr.splitlines()[0]) == (2, "error: in which form? --to is missing")
    assert "prompts, prompt-completion, messages" in neither.stderr
    again = command("export", "runs/sums", "--calls", "calls.jsonl", cwd=folder)
    assert again.returncode == 2
    assert again.stderr == (
        "error: calls.jsonl: cannot be written: File exists\nnext: name a file or folder that does not exist yet\n"
    )


def test_a_run_without_calls_says_so(run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    folder, _ = run
    made = command(
        *("run", "task.yaml", "--name", "none", "--instructor", "procedural:chain_sum", "--until", "retrieve"),
        *("--profile", "small", "--base-model", "builtin:smollm2-135m"),
        cwd=folder,
    )
    assert made.returncode == 0, made.stderr
    assert command("show", "runs/none", "--calls", cwd=folder).stdout == "runs/none: no instructor call is recorded\n"
    done = command("export", "runs/none", "--calls", cwd=folder)
    assert done.stderr == ("error: runs/none: no instructor call is recorded\nnext: taskdef show runs/none\n")
