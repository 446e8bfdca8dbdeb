"""Training is stopped and goes on; what it leaves is an ordinary checkpoint and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from taskdef.config import RunConfig, build_config
from taskdef.policy.master_weights import MasterWeightAdamW
from taskdef.progress import SilentProgress
from taskdef.records import Sample, Stage, TaskDefinition, TrainingStep
from taskdef.store import RunDirectory, StageDirectory
from taskdef.train import loop as loop_module
from taskdef.train.job import Training
from taskdef.train.loop import LOG_FILE
from taskdef.train.stage import summarise, train_policy
from taskdef.verify.isolated import Verifier

SETTINGS: dict[str, Any] = {
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 4,
    "train.learning_rate": 1e-3,
    "train.batch": 2,
    "train.completions": 4,
    "train.micro_batch": 4,
    "train.max_steps": 5,
    "train.save_every": 2,
    "train.format_reward": 0.5,  # any letter is worth something, so that noise has a signal
}
SAMPLES = [Sample(id=letter, input=f"Name {letter}!", solution=letter, answer=letter) for letter in "abcde"]


class StopAfter(SilentProgress):
    """Stops the process, as Ctrl-C would, after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.started: tuple[str, int, int] | None = None

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.started = (label, total, done)

    def advance(self, units: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def make_run(tmp_path: Path, letters: TaskDefinition) -> Callable[..., StageDirectory]:
    def make(name: str, **settings: Any) -> StageDirectory:
        config = build_config(overrides=SETTINGS | {key.replace("__", "."): value for key, value in settings.items()})
        directory = RunDirectory.create(tmp_path / name, letters, config).stage(Stage.TRAIN)
        directory.open()
        return directory

    return make


@pytest.fixture
def train(tiny_llama: Path, letters: TaskDefinition, letters_verifier: Verifier) -> Callable[..., list[TrainingStep]]:
    def start(directory: StageDirectory, progress: SilentProgress | None = None) -> list[TrainingStep]:
        config: RunConfig = directory.run.config
        return train_policy(
            letters,
            SAMPLES,
            config,
            start=tiny_llama,
            model_path=directory.run.model_path,
            verifier=letters_verifier,
            directory=directory,
            progress=progress,
        ).steps

    return start


Train = Callable[..., list[TrainingStep]]
MakeRun = Callable[..., StageDirectory]


def weights(directory: StageDirectory) -> dict[str, torch.Tensor]:
    return load_file(directory.run.model_path / "model.safetensors")


def logged(directory: StageDirectory) -> list[TrainingStep]:
    return directory.read_records(LOG_FILE, TrainingStep)


def learned(steps: list[TrainingStep]) -> list[dict[str, Any]]:
    """All figures of the steps but their times."""
    return [step.model_dump(exclude={"seconds"}) for step in steps]


def test_a_run_leaves_a_log_and_a_model_and_no_checkpoints(train: Train, make_run: MakeRun, tiny_llama: Path) -> None:
    directory = make_run("run")
    steps = train(directory)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5]
    assert logged(directory) == steps
    for step in steps:
        assert step.reward is not None
        assert 0 <= step.reward <= 1
        assert step.zero_signal_share in (0.0, 0.5, 1.0)
        assert step.learning_rate == 1e-3
        assert step.kl is not None  # the reference model is there
        assert step.seconds is not None
        assert step.seconds > 0
        assert None not in (step.entropy, step.completion_length, step.truncated_share, step.gradient_norm, step.loss)
    assert any(step.gradient_norm for step in steps)
    assert [path.name for path in directory.path.iterdir()] == [LOG_FILE]
    before = load_file(tiny_llama / "model.safetensors")
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(directory).items())
    summary = summarise(Training(steps, {"rollouts": 40}), "grpo")
    assert (summary["method"], summary["rollouts"]) == ("grpo", 40)
    assert (summary["steps"], summary["reward_first"], summary["reward_last"]) == (5, steps[0].reward, steps[4].reward)


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
def test_going_on_gives_what_an_undisturbed_run_gives(train: Train, make_run: MakeRun, stop_after: int) -> None:
    undisturbed = make_run("undisturbed")
    train(undisturbed)
    stopped = make_run("stopped")
    with pytest.raises(KeyboardInterrupt):
        train(stopped, StopAfter(stop_after))
    assert [step.step for step in logged(stopped)] == list(range(1, stop_after + 1))
    progress = StopAfter(-1)
    train(stopped, progress)
    # checkpoints are written every second step, after the step is logged
    assert progress.started == ("train", 5, {1: 0, 2: 0, 3: 2, 5: 4}[stop_after])
    assert learned(logged(stopped)) == learned(logged(undisturbed))
    straight = weights(undisturbed)
    assert all(torch.equal(tensor, straight[name]) for name, tensor in weights(stopped).items())


def test_a_checkpoint_torn_by_a_kill_is_passed_over(train: Train, make_run: MakeRun) -> None:
    undisturbed = make_run("undisturbed")
    train(undisturbed)
    stopped = make_run("stopped")
    with pytest.raises(KeyboardInterrupt):
        train(stopped, StopAfter(5))
    checkpoints = stopped.path / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    (checkpoints / "checkpoint-4" / "trainer_state.json").unlink()  # the file that is written last
    (checkpoints / "checkpoint-4" / "optimizer.pt").write_bytes(b"half of")
    progress = StopAfter(-1)
    train(stopped, progress)
    assert progress.started == ("train", 5, 2)
    assert learned(logged(stopped)) == learned(logged(undisturbed))
    straight = weights(undisturbed)
    assert all(torch.equal(tensor, straight[name]) for name, tensor in weights(stopped).items())


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_kill_after_the_last_checkpoint_takes_no_further_step(
    adapter: str, train: Train, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = make_run("undisturbed", train__adapter=adapter)
    train(undisturbed)
    stopped = make_run("stopped", train__adapter=adapter)

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "save_checkpoint", kill)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    train(stopped)
    assert learned(logged(stopped)) == learned(logged(undisturbed))
    straight = weights(undisturbed)
    assert all(torch.equal(tensor, straight[name]) for name, tensor in weights(stopped).items())


def test_a_kill_while_checkpoints_are_removed(train: Train, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make_run("run", train__save_every=1)
    remove = shutil.rmtree

    def kill(path: Path | str, *rest: Any, **named: Any) -> None:
        if "checkpoints" not in Path(path).name or not Path(path).exists():
            remove(path, *rest, **named)
            return
        for file in sorted(Path(path).rglob("*.safetensors")):
            file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", kill)
        with pytest.raises(KeyboardInterrupt):
            train(directory)
    assert (directory.run.model_path / "config.json").exists()
    assert [step.step for step in train(directory)] == [1, 2, 3, 4, 5]
    assert [path.name for path in directory.path.iterdir()] == [LOG_FILE]


def test_bf16_weights_have_float32_copies(
    train: Train, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tiny_llama: Path
) -> None:
    made: list[MasterWeightAdamW] = []

    class Noted(MasterWeightAdamW):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    monkeypatch.setattr(loop_module, "MasterWeightAdamW", Noted)
    directory = make_run("run", policy__dtype="bfloat16", train__learning_rate=1e-5)
    with pytest.raises(KeyboardInterrupt):
        train(directory, StopAfter(3))
    train(directory)
    assert len(made) == 2
    assert all(master.dtype is torch.float32 for master in made[1].masters)
    saved = weights(directory)
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    # five steps of 1e-5 vanish in bf16 weights of 0.3, not in the copies
    before = load_file(tiny_llama / "model.safetensors")["model.embed_tokens.weight"].to(torch.bfloat16).float()
    copy = next(master for master in made[1].masters if master.shape == before.shape)
    moved = (copy - before).abs().max().item()
    assert 1e-6 < moved < 1e-4


def test_lora_is_merged_into_an_ordinary_checkpoint(train: Train, make_run: MakeRun) -> None:
    directory = make_run("run", train__adapter="lora", train__lora_rank=4)
    with pytest.raises(KeyboardInterrupt):
        train(directory, StopAfter(3))
    assert [step.step for step in train(directory)] == [1, 2, 3, 4, 5]
    files = {path.name for path in directory.run.model_path.iterdir()}
    assert "adapter_config.json" not in files
    assert not [name for name in weights(directory) if "lora" in name]


LOADING = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = tokenizer("Name a!", return_tensors="pt")
print(model.generate(**ids, max_new_tokens=3, do_sample=False).shape)
print([name for name in sys.modules if name.startswith("taskdef")])
"""


def test_the_model_loads_in_a_fresh_process_and_holds_no_python_objects(
    train: Train, make_run: MakeRun, offline_environment: dict[str, str]
) -> None:
    directory = make_run("run", train__max_steps=1)
    train(directory)
    model = directory.run.model_path
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(model)],
        env=offline_environment | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "torch.Size([1, 10])\n[]\n", done.stderr
    for file in model.iterdir():
        assert file.suffix in (".json", ".safetensors", ".jinja"), file
        assert not zipfile.is_zipfile(file)
        assert not file.read_bytes().startswith(b"\x80"), f"{file}: a pickle"
        if file.suffix == ".json":
            json.loads(file.read_bytes())
