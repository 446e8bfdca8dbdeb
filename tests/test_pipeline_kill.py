"""Kill -9 in each of the six stages: the run goes on, repeats nothing that was finished, and ends the same."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent / "instruct"))
from chat_server import ChatServer, Reply, chat_server, completion

import taskdef
from taskdef.config import build_config
from taskdef.records import PassageSource, Stage, TaskDefinition
from taskdef.records import TestSource as HeldOut
from taskdef.store import STAGES, RunDirectory

SETTINGS: dict[str, Any] = {
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 4,
    "policy.max_prompt_tokens": 256,
    "instruct.concurrency": 1,
    "synthesize.samples": 9,
    "synthesize.votes": 2,
    "warm_up.max_steps": 2,
    "warm_up.batch": 4,
    "select.rollouts": 64,
    "select.size": 4,
    "train.max_steps": 3,
    "train.batch": 2,
    "train.completions": 2,
    "train.save_every": 1,
}

KILLER = """
import os, signal, sys

place, count = os.environ["KILL_AT"].rsplit(":", 1)
left = [int(count)]

def watch(event, arguments):
    if event == "open" and place in str(arguments[0]):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

if "taskdef.verify.worker" not in sys.orig_argv:  # the verifier writes nothing
    sys.addaudithook(watch)
"""
"""Kills its own process the moment it opens a certain file for the n-th time: a kill -9 that never comes too late."""

KILLS = {
    Stage.RETRIEVE: ("1-retrieve/.retrieval.json:1", "passages.jsonl"),
    Stage.SYNTHESIZE: ("2-synthesize/.pattern.json:1", "samples.jsonl"),
    Stage.ADAPT: ("3-adapt/.warm_up.json:1", "warm-up/model.safetensors"),
    Stage.SELECT: ("4-select/attempts.jsonl:2", "attempts.jsonl"),  # 18 x 64 attempts are three chunks
    Stage.TRAIN: ("5-train/log.jsonl:3", "checkpoints/checkpoint-1/trainer_state.json"),
    Stage.EVALUATE: ("6-evaluate/attempts-tuned.jsonl:1", "attempts-base.jsonl"),
}
"""Where each stage is killed, and something that stands half-done then."""


def teach(body: dict[str, Any], number: int) -> Reply:
    """Writes "N + N" from a passage about N, an easier question from that, and answers both rightly."""
    prompt = body["messages"][0]["content"]
    if '"keywords"' in prompt:
        return completion('{"keywords": ["number", "addition"]}')
    if about := re.search(r"Number (\d+) is here", prompt):
        n = int(about[1])
        return completion(json.dumps({"input": f"What is {n} + {n}?", "output": f"#### {2 * n}"}))
    if parent := re.search(r"Input: What is (\d+) \+", prompt):
        return completion(
            json.dumps({"input": f"Count up from {parent[1]} by one!", "output": f"#### {int(parent[1]) + 1}"})
        )
    if asked := re.search(r"What is (\d+) \+ (\d+)\?", prompt):
        return completion(f"#### {int(asked[1]) + int(asked[2])}")
    asked = re.search(r"Count up from (\d+)", prompt)
    assert asked, prompt
    return completion(f"#### {int(asked[1]) + 1}")


@pytest.fixture
def definition(tmp_path: Path, sums: TaskDefinition) -> TaskDefinition:
    texts = [f"Number {n} is here." for n in range(10, 30)]
    (tmp_path / "library.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = [{"input": f"Held out: {n} plus {n}, please", "output": f"#### {2 * n}"} for n in range(100, 105)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sums.model_copy(
        update={
            "passages": (PassageSource(path=tmp_path / "library.jsonl"),),
            "test": HeldOut(path=tmp_path / "test.jsonl"),
        }
    )


class Killed:
    """A run from the command line that is killed over and over."""

    def __init__(self, folder: Path, definition: TaskDefinition, settings: dict[str, Any], server: ChatServer) -> None:
        self.folder, self.settings, self.server = folder, settings, server
        self.path = folder / "runs" / "sums"
        (folder / "killer").mkdir()
        (folder / "killer" / "sitecustomize.py").write_text(KILLER)
        (folder / "task.yaml").write_text(yaml.safe_dump(definition.model_dump(mode="json", exclude_defaults=True)))

    def go(self, kill_at: str | None) -> int:
        """Start or go on; gives the exit code. Every call that was sent must have been a new one."""
        sent, known = len(self.server.requests), self.ledger_calls()
        words = [sys.executable, "-c", "from taskdef.cli import main; main()", "run"]
        if (self.path / "run.yaml").exists():
            words += ["runs/sums"]
        else:
            words += ["task.yaml"] + [w for key, value in self.settings.items() for w in ("--set", f"{key}={value}")]
        environment = dict(os.environ)
        if kill_at:
            environment |= {"PYTHONPATH": str(self.folder / "killer"), "KILL_AT": kill_at}
        done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)
        assert kill_at or done.returncode == 0, done.stderr
        assert len(self.server.requests) - sent == self.ledger_calls() - known
        return done.returncode

    def ledger_calls(self) -> int:
        if not (self.path / "ledger.sqlite").exists():
            return 0
        with sqlite3.connect(self.path / "ledger.sqlite") as connection:
            return int(connection.execute("SELECT COUNT(*) FROM calls").fetchone()[0])

    def finished_stages(self) -> dict[str, bytes]:
        """All files of the stages that are done."""
        run = RunDirectory.open(self.path)
        folders = [stage.path for stage in run.stages() if stage.is_done()]
        return {str(f): f.read_bytes() for folder in folders for f in folder.rglob("*") if f.is_file()}


def outputs(run: RunDirectory) -> dict[str, str]:
    return {f"{s.path.name}/{name}": digest for s in run.stages() for name, digest in s.manifest().outputs.items()}


def kill_and_compare(
    stages: list[Stage], definition: TaskDefinition, tiny_llama: Path, tmp_path: Path, **changes: Any
) -> None:
    with chat_server(teach) as server:
        settings = SETTINGS | {"base_model": str(tiny_llama), "instructor": f"openai:m@{server.url}"} | changes
        undisturbed = taskdef.run(definition, build_config(overrides=settings), path=tmp_path / "undisturbed")
        calls = len(server.requests)
        killed = Killed(tmp_path, definition, settings, server)
        for stage in stages:
            place, half_done = KILLS[stage]
            before = killed.finished_stages() if killed.path.exists() else {}
            assert killed.go(kill_at=place) == -signal.SIGKILL
            run = RunDirectory.open(killed.path)
            assert run.next_stage() is stage
            assert (run.stage(stage).path / half_done).exists()
            assert before.items() <= killed.finished_stages().items()
        before = killed.finished_stages()
        killed.go(kill_at=None)
        assert before.items() <= killed.finished_stages().items()
        assert killed.ledger_calls() == calls
        assert len(server.requests) == 2 * calls
    run = RunDirectory.open(killed.path)
    assert run.next_stage() is None
    ours, theirs = outputs(run), outputs(undisturbed)
    log = "5-train/log.jsonl"
    assert {name for name in theirs if ours.get(name) != theirs[name]} <= {log}  # the log holds times
    assert ours.keys() == theirs.keys()
    steps = [json.loads(line)["step"] for line in (run.path / log).read_text().splitlines()]
    assert steps == [1, 2, 3]
    weights = [(each.model_path / "model.safetensors").read_bytes() for each in (run, undisturbed)]
    assert weights[0] == weights[1]


def test_kill_9_in_training(definition: TaskDefinition, tiny_llama: Path, tmp_path: Path) -> None:
    kill_and_compare([Stage.TRAIN], definition, tiny_llama, tmp_path, **{"select.rollouts": 2})


@pytest.mark.slow
def test_kill_9_in_every_stage(definition: TaskDefinition, tiny_llama: Path, tmp_path: Path) -> None:
    kill_and_compare(list(STAGES), definition, tiny_llama, tmp_path)
