"""The commands as a user types them: help, init, check, packs, and every refusal before a run begins."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from taskdef import __version__
from taskdef.cli import StageName, main
from taskdef.config import build_config
from taskdef.definition.packs import load_pack
from taskdef.records import Stage
from taskdef.store import RunDirectory

STAGE_COMMANDS = ["retrieve", "synthesize", "adapt", "select", "train", "evaluate", "report"]
COMMANDS = ["init", "check", "packs", "preview", "run", *STAGE_COMMANDS, "show"]
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

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Calls the command line in an empty folder; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["taskdef", *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A small sound task in the folder."""
    (tmp_path / "task.yaml").write_text(TASK)
    (tmp_path / "library.txt").write_text("Numbers are added digit by digit.\n")
    rows = [{"input": f"What is {n} + 3?", "output": f"#### {n + 3}"} for n in range(4)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "task.yaml"


def test_help_lists_the_commands_in_the_stages_order(cli: Cli) -> None:
    code, out, _ = cli("--help")
    listed = [line.split()[1] for line in out.splitlines() if len(line.split()) > 2 and line.split()[1] in COMMANDS]
    assert (code, listed) == (0, COMMANDS)


def test_no_command_prints_the_help(cli: Cli) -> None:
    code, out, err = cli()
    assert code == 2
    assert "synthesize" in out + err


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from taskdef.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'trl', 'scipy', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy with something else
        started = time.monotonic()
        out = subprocess.check_output([sys.executable, "-c", code], text=True)
        seconds.append(time.monotonic() - started)
    assert out.splitlines()[-1] == "[]"
    assert min(seconds) < 0.5


def test_version(cli: Cli) -> None:
    assert cli("--version") == (0, f"taskdef {__version__}\n", "")


def test_the_stages_written_out_for_a_quick_help_are_the_stages() -> None:
    assert get_args(StageName) == tuple(stage.value for stage in Stage)


def test_a_mistyped_command_is_told_the_nearest(cli: Cli) -> None:
    code, _, err = cli("syntesize", "runs/x")
    assert code == 2
    assert "Did you mean 'synthesize'?" in err


def test_a_mistyped_stage_is_told_the_stages(cli: Cli) -> None:
    code, _, err = cli("run", "gsm8k", "--fresh", "trian")
    assert code == 2
    assert "'trian' is not one of 'retrieve'" in err


# --- init, check, packs ----------------------------------------------------------------------------------------


def test_init_writes_a_task_that_check_accepts(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("init")
    assert (code, out) == (0, "wrote task.yaml\nnext: fill it in, then taskdef check task.yaml\n")
    assert cli("check", "task.yaml")[0] == 0


def test_init_never_overwrites(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    code, _, err = cli("init", "mine.yaml")
    assert code == 2
    assert err == "error: mine.yaml: exists already, and init never overwrites\nnext: taskdef check mine.yaml\n"
    assert (tmp_path / "mine.yaml").read_text() == "name: mine\n"


def test_init_into_a_missing_folder_says_so(cli: Cli) -> None:
    code, _, err = cli("init", "nowhere/task.yaml")
    assert code == 2
    assert err.startswith("error: nowhere/task.yaml: cannot be written: No such file or directory")


def test_check_accepts_a_sound_task(cli: Cli, task: Path) -> None:
    assert cli("check", "task.yaml") == (0, "task.yaml: in order\n", "")


def test_check_names_file_and_line_and_exits_2(cli: Cli, task: Path) -> None:
    task.write_text(TASK.replace("1 + 1 = 2 #### 2", "it is two"))
    code, out, err = cli("check", "task.yaml")
    assert (code, out) == (2, "")
    assert "task.yaml:7: error: demos[1]" in err
    assert err.splitlines()[-2:] == ["error: task.yaml: 1 error", "next: mend it, then: taskdef check task.yaml"]


def test_check_names_the_test_row_that_cannot_be_read(cli: Cli, task: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"input": "a", "output": "#### 1"}\n{"input": "b", "output": "who knows"}\n')
    code, _, err = cli("check", "task.yaml", "--test", "other.jsonl")
    assert code == 2
    assert "other.jsonl:2" in err
    assert "who knows" in err


def test_a_task_that_is_not_there(cli: Cli) -> None:
    code, _, err = cli("check", "gsm9k")
    assert code == 2
    assert err.startswith("error: 'gsm9k' is neither a file nor a pack; did you mean gsm8k?\nnext: ")


def test_packs_are_the_papers_eight(cli: Cli) -> None:
    code, out, _ = cli("packs")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:9]] == [
        *["gsm8k", "math", "gpqa", "logiqa", "medqa", "mednli", "cqa", "cfa"]
    ]


# --- run: the plan, and what is refused before anything begins -------------------------------------------------


def test_a_dry_run_prints_the_plan_and_creates_nothing(cli: Cli, task: Path, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path))
    code, out, err = cli(
        *("run", "task.yaml", "--dry-run", "--profile", "small", "--instructor", "openai:m"),
        *("--set", "synthesize.samples=10", "--set", "select.size=15", "--set", "train.learning_rate=2e-6"),
    )
    assert (code, err) == (0, "")
    assert sorted(os.listdir(tmp_path)) == before
    # 2 x 10 drafts and 10 rewrites, each 1 call and 4 votes, 1 for keywords, 1 for the pattern: 30 x 5 + 2 = 152.
    assert "at most 152 answers" in out
    # 2 x 10 greedy (before and after a warm-up), 20 x 16 scoring, 100 x 8 x 8 rollouts, 3 x 4 test rows; of 32 tokens.
    assert "at most 6,752 completions, 216,064 tokens" in out
    assert "20 samples x at most 16 attempts = at most 320\n" in out
    assert "* select.rollouts = adaptive  (paper: 64)" in out
    assert "* train.learning_rate = 2e-06  (paper: 1e-06)" in out
    assert "  train.epochs = 5.0\n" in out
    for stage in Stage:
        assert f" {stage.value} " in out


def test_a_fixed_number_of_attempts_is_planned_as_it_is(cli: Cli, task: Path) -> None:
    settings = ("--set", "synthesize.samples=10", "--set", "select.rollouts=8")
    _, out, _ = cli("run", "task.yaml", "--dry-run", "--instructor", "openai:m", *settings)
    assert "20 samples x 8 attempts = 160\n" in out
    assert "* select.rollouts = 8  (paper: 64)" in out


def test_labels_by_construction_need_no_votes(cli: Cli, task: Path) -> None:
    _, out, _ = cli("run", "task.yaml", "--dry-run", "--profile", "small", "--instructor", "procedural:chain_sum")
    # 400 drafts, 200 rewrites, keywords, pattern.
    assert "at most 602 answers" in out
    assert "labels right by construction" in out


def test_labels_without_votes_are_not_called_right(cli: Cli, task: Path) -> None:
    _, out, _ = cli("run", "task.yaml", "--dry-run", "--instructor", "openai:m", "--set", "synthesize.votes=0")
    assert "labels right by construction" not in out
    assert "labels not put to the vote" in out


def test_a_dry_run_of_a_run_says_what_is_done(cli: Cli, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs" / "gsm8k", load_pack("gsm8k"), build_config(profile="small"))
    directory = run.stage(Stage.RETRIEVE)
    directory.open()
    directory.finish(started=time.monotonic(), artifacts=[], summary={})
    _, out, _ = cli("run", "runs/gsm8k", "--dry-run", "--until", "adapt")
    states = [line[14:22].strip() for line in out.splitlines() if line[:2].strip().isdigit()]
    assert states == ["done", "to do", "to do", "left out", "left out", "left out"]
    _, out, _ = cli("run", "runs/gsm8k", "--dry-run", "--fresh", "retrieve")
    assert "1 retrieve    to do" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "select.sise=3"), "select.sise: no such setting; did you mean select.size?"),
        (("--set", "select.size=many"), "select.size: input should be a valid integer"),
        (("--set", "select.size"), "--set select.size: expected KEY=VALUE"),
        (("--name", "a/b"), "--name a/b: a run's name is one folder's name"),
        (("--config", "none.yaml"), "none.yaml: cannot be read: No such file or directory"),
        (("--dry-run", "--test", "nope.jsonl"), "--test nope.jsonl: no such file"),
        (("--dry-run", "--passages", "nope"), "--passages nope: no such file or folder"),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_created(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = cli("run", "gsm8k", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert "\nnext: " in err
    assert os.listdir(tmp_path) == []


def test_other_settings_than_the_runs_own_are_refused(cli: Cli, tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "runs" / "gsm8k", load_pack("gsm8k"), build_config(profile="small"))
    code, _, err = cli("run", "runs/gsm8k", "--set", "select.size=3")
    assert code == 2
    assert err == (
        "error: runs/gsm8k: this run was started with other values of: select.size\n"
        "next: a new run with --name NAME, or --fresh select to redo this one from there\n"
    )


@pytest.mark.parametrize(
    "arguments", [("--name", "x"), ("--profile", "paper"), ("--test", "t.jsonl"), ("--passages", "p.txt")]
)
def test_options_of_a_new_run_are_refused_for_an_old_one(cli: Cli, tmp_path: Path, arguments: tuple[str, str]) -> None:
    RunDirectory.create(tmp_path / "runs" / "gsm8k", load_pack("gsm8k"), build_config(profile="small"))
    code, _, err = cli("run", "runs/gsm8k", *arguments)
    assert code == 2
    assert err.startswith(f"error: runs/gsm8k: is a run, which has its own; given: {arguments[0]}\n")


def test_a_faulty_task_is_refused_before_anything_is_spent(cli: Cli, task: Path, tmp_path: Path) -> None:
    task.write_text(TASK.replace("#### 2", "it is two"))
    code, _, err = cli("run", "task.yaml", "--instructor", "procedural:chain_sum")
    assert code == 2
    assert "error: task.yaml: 1 error; nothing was spent" in err
    assert not (tmp_path / "runs").exists()


def test_the_check_before_a_run_keeps_to_the_runs_time_limit(
    cli: Cli, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading takes 0.6 s: within the 2 s that `check` gives, beyond the 0.2 s that this run gives."""
    (tmp_path / "slow_reader.py").write_text(
        "import time\n\ndef read(text):\n    time.sleep(0.6)\n    return text.split()[-1]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task.write_text(TASK.replace("number_after_marker", "function, function: slow_reader.read"))
    (tmp_path / "test.jsonl").write_text('{"input": "1 + 3?", "output": "4"}\n')
    assert cli("check", "task.yaml")[0] == 0
    code, _, err = cli(
        *("run", "task.yaml", "--instructor", "procedural:chain_sum", "--set", "verify.timeout_seconds=0.2")
    )
    assert code == 2
    assert "nothing was spent" in err
    assert not (tmp_path / "runs").exists()


def test_an_empty_library_is_refused_before_anything_is_spent(cli: Cli, task: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    code, _, err = cli("run", "task.yaml", "--instructor", "procedural:chain_sum", "--passages", "empty.txt")
    assert code == 2
    assert "empty.txt is empty" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("instructor", "message"),
    [
        ((), "instructor: none was given"),
        (("--instructor", "gpt-4"), "instructor: 'gpt-4'"),
        (("--instructor", "procedural:no_such_generator"), "no_such_generator"),
        (("--instructor", "scripted:none.jsonl"), "scripted:none.jsonl: cannot be read: No such file or directory"),
        (("--instructor", "openai:gpt-4o"), "OPENAI_API_KEY"),
    ],
)
def test_an_instructor_that_cannot_be_used_is_refused_before_anything_is_created(
    cli: Cli, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instructor: tuple[str, ...], message: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, _, err = cli("run", "task.yaml", *instructor)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("model", ["./no-such-folder", "builtin:gpt2", "no-such-owner/no-such-model"])
def test_an_unknown_base_model_is_refused_before_anything_is_created(
    cli: Cli, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, err = cli("run", "task.yaml", "--instructor", "procedural:chain_sum", "--base-model", model)
    assert code == 2
    assert f"error: {model}: " in err
    assert "\nnext: " in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "message", "next_step"),
    [
        # byte-level tokens: "What is 0 + 3?" (14), two line ends, the output format (28 bytes), a line end: 45 tokens
        (
            ("policy.max_prompt_tokens=42", "policy.max_new_tokens=32"),
            "test.jsonl:4: its prompt has 45 tokens, the most of all held-out rows; the limit is 42",
            "--set policy.max_prompt_tokens=45",
        ),
        (
            ("policy.max_new_tokens=1160",),
            "test.jsonl:4: its prompt has 45 tokens, the most of all held-out rows; the limit is 40",
            "--set policy.max_new_tokens=1155",
        ),
        (
            ("policy.max_new_tokens=1200",),
            "its context of 1200 tokens has no room for a prompt beside a response of 1200",
            "--set policy.max_new_tokens=600",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_created(
    cli: Cli, task: Path, tmp_path: Path, tiny_llama: Path, settings: tuple[str, ...], message: str, next_step: str
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    words += ["--set", "policy.device=cpu", "--base-model", str(tiny_llama)]
    code, _, err = cli("run", "task.yaml", "--instructor", "procedural:chain_sum", *words)
    assert code == 2
    assert f"{message}\nnext: {next_step}\n" in err
    assert not (tmp_path / "runs").exists()


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_created(
    cli: Cli, task: Path, tmp_path: Path, tiny_llama: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("the machine has a GPU")
    words = ["--set", "policy.device=cuda", "--base-model", str(tiny_llama)]
    code, _, err = cli("run", "task.yaml", "--instructor", "procedural:chain_sum", *words)
    assert code == 2
    assert "no CUDA device is visible" in err
    assert not (tmp_path / "runs").exists()
