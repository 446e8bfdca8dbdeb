"""One run from the command line to the report, on a model of some thousand weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskdef.records import Stage
from taskdef.store import RunDirectory

EXAMPLE = Path(__file__).parents[1] / "examples" / "sums"
SIZES = {
    "synthesize.samples": 12,
    "select.attempts": 4,
    "select.size": 8,
    "warm_up.max_steps": 2,
    "train.max_steps": 2,
    "train.batch": 2,
    "train.completions": 2,
    "evaluate.limit": 6,
    "policy.max_new_tokens": 4,
}
SETTINGS = [word for key, value in SIZES.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Llama that reads and writes bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    letters = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1200,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from taskdef.cli import main; main()", *arguments]


def run_command(tiny_model: Path, *more: str) -> list[str]:
    example = [str(EXAMPLE / "task.yaml"), "--config", str(EXAMPLE / "config.yaml")]
    return command("run", *example, "--base-model", str(tiny_model), *SETTINGS, *more)


def artifacts(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in run.glob("?-*/*") if file.is_file()}


def test_a_run_ends_with_a_report_and_runs_again_for_nothing(tiny_model: Path, tmp_path: Path) -> None:
    first = subprocess.run(run_command(tiny_model), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("6 held-out rows:\n  base ")
    assert first.stdout.endswith("model: runs/sums/model\nreport: runs/sums/report.html\n")
    assert "\r" not in first.stderr  # no bar where nobody looks
    for work in ("drafts: 0/12", "attempt samples: 0/12", "train: 0/2", "evaluate tuned: 0/6"):
        assert f"{work}\n" in first.stderr

    run = tmp_path / "runs" / "sums"
    before = artifacts(run)
    again = subprocess.run(command("run", "runs/sums"), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr.count("done before") == len(Stage)
    assert artifacts(run) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_and_going_on(tiny_model: Path, tmp_path: Path, number: signal.Signals) -> None:
    words = run_command(tiny_model, "--set", "train.max_steps=100000", "--set", "train.save_every=5")
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        bufsize=1,
        stdout=subprocess.PIPE,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("train: ") and not line.startswith("train: 0/"):
            break
    started = time.monotonic()
    os.killpg(process.pid, number)  # a terminal sends it to the whole group
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - started < 10
    assert rest.endswith("stopped; what is finished is on disk\nnext: go on with: taskdef run runs/sums\n")
    assert "Traceback" not in rest
    run = RunDirectory.open(tmp_path / "runs" / "sums")
    assert run.next_stage() is Stage.TRAIN

    before = artifacts(run.path)
    going_on = command("run", "runs/sums", "--fresh", "train", "--set", "train.max_steps=2")
    done = subprocess.run(going_on, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    kept = {name: content for name, content in before.items() if name[0] in "1234"}
    assert kept.items() <= artifacts(run.path).items()
