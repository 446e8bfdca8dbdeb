"""Methods through the train stage of a run: they reuse what scoring made, count what they make, and leave a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from taskdef.config import build_config
from taskdef.errors import RunError
from taskdef.pipeline import run_stage
from taskdef.progress import SilentProgress
from taskdef.records import Attempt, Manifest, Sample, Stage, TaskDefinition, TrainingStep, Verdict, WarmUp
from taskdef.store import RunDirectory
from taskdef.train.loop import LOG_FILE
from taskdef.train.pairs import AttemptPair
from taskdef.train.rft import Solution

MakeRun = Callable[..., RunDirectory]

SETTINGS: dict[str, Any] = {
    "instructor": "procedural:sums",
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 20,
    "train.micro_batch": 4,
    "train.sft.batch": 4,
    "train.sft.epochs": 1,
    "train.dpo.batch": 4,
    "train.dpo.epochs": 1,
    "train.rft.attempts": 4,
    "train.dpo.attempts": 4,
    "train.batch": 2,
    "train.completions": 2,
    "train.max_steps": 2,
}
SAMPLES = [
    Sample(id="s0", input="1 + 2?", solution="1 + 2 = 3 #### 3", answer="3"),
    Sample(id="s1", input="2 + 2?", solution="2 + 2 = 4 #### 4", answer="4"),
    Sample(id="s2", input="5 + 1?", solution="5 + 1 = 6 #### 6", answer="6"),
]


def attempt(sample_id: str, text: str, verdict: Verdict) -> Attempt:
    return Attempt(sample_id=sample_id, text=text, answer=None, verdict=verdict, token_count=len(text))


RECORDED = [
    attempt("s0", "2 + 1 = 3 #### 3", Verdict.CORRECT),
    attempt("s0", "1 + 2 = 3 #### 3", Verdict.CORRECT),
    attempt("s0", "#### 12", Verdict.WRONG),
    attempt("s0", "#### 12", Verdict.WRONG),
    attempt("elsewhere", "#### 1", Verdict.CORRECT),
    attempt("s1", "#### 22", Verdict.WRONG),
    attempt("s1", "no idea", Verdict.NO_ANSWER),
]
"""Four attempts on s0, two on s1, none on s2: six are missing."""


@pytest.fixture
def make_run(tmp_path: Path, sums: TaskDefinition, tiny_llama: Path) -> MakeRun:
    """A run whose samples are chosen."""

    def make(name: str, **settings: Any) -> RunDirectory:
        given = SETTINGS | {"base_model": str(tiny_llama)} | settings
        run = RunDirectory.create(tmp_path / name, sums, build_config(overrides=given))
        for stage in (Stage.RETRIEVE, Stage.SYNTHESIZE, Stage.ADAPT, Stage.SELECT):
            run.stage(stage).open()
        run.stage(Stage.ADAPT).write_json("warm_up.json", WarmUp(done=False, reason="").model_dump(mode="json"))
        run.stage(Stage.SELECT).write_records("selected.jsonl", SAMPLES)
        run.stage(Stage.SELECT).write_records("attempts.jsonl", RECORDED)
        for stage in (Stage.RETRIEVE, Stage.SYNTHESIZE, Stage.ADAPT, Stage.SELECT):
            run.stage(stage).finish(started=0, artifacts=[], summary={})
        return run

    return make


def trained(run: RunDirectory, tiny_llama: Path) -> Manifest:
    """Run the stage; what every method must leave is checked here."""
    manifest = run_stage(run, Stage.TRAIN)
    steps = run.stage(Stage.TRAIN).read_records(LOG_FILE, TrainingStep)
    assert manifest.summary["steps"] == len(steps) > 0
    assert manifest.summary["method"] == run.config.train.method
    assert {path.name for path in run.stage(Stage.TRAIN).path.iterdir()} == {"manifest.json", *manifest.outputs}
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_llama, run.model_path))
    assert any(not before[name].equal(after[name]) for name in before)
    return manifest


def test_sft_learns_the_verified_solutions(make_run: MakeRun, tiny_llama: Path) -> None:
    summary = trained(make_run("sft", **{"train.method": "sft"}), tiny_llama).summary
    assert (summary["solutions"], summary["beyond_context"]) == (3, 0)
    assert "rollouts" not in summary


def test_grpo_counts_its_rollouts(make_run: MakeRun) -> None:
    summary = run_stage(make_run("grpo"), Stage.TRAIN).summary
    assert (summary["method"], summary["steps"], summary["rollouts"]) == ("grpo", 2, 8)


def test_rft_learns_the_models_own_distinct_solutions(make_run: MakeRun, tiny_llama: Path) -> None:
    run = make_run("rft", **{"train.method": "rft"})
    summary = trained(run, tiny_llama).summary
    assert (summary["attempts_reused"], summary["rollouts"]) == (6, 6)
    assert len(run.stage(Stage.TRAIN).read_records("attempts.jsonl", Attempt)) == 6
    solutions = run.stage(Stage.TRAIN).read_records("solutions.jsonl", Solution)
    # the second correct one has the verified solution's equation
    assert [(one.sample_id, one.text) for one in solutions if one.own] == [("s0", "2 + 1 = 3 #### 3")]
    assert [one.sample_id for one in solutions if not one.own] == ["s0", "s1", "s2"]
    assert summary["solutions"] == 4
    assert (summary["attempts_kept"], summary["attempts_same"]) == (1, 1)
    fates = ("kept", "unsolved", "unjudged", "cut", "wrong_equation", "same", "over_cap")
    assert sum(summary[f"attempts_{fate}"] for fate in fates) == 12


def test_dpo_learns_from_pairs_of_attempts(make_run: MakeRun, tiny_llama: Path) -> None:
    run = make_run("dpo", **{"train.method": "dpo", "train.dpo.learning_rate": 1e-3})
    summary = trained(run, tiny_llama).summary
    assert (summary["attempts_reused"], summary["rollouts"]) == (6, 6)
    pairs = run.stage(Stage.TRAIN).read_records("pairs.jsonl", AttemptPair)
    assert summary["pairs"] == len(pairs)
    assert [pair.rejected for pair in pairs if pair.sample_id == "s0"] == ["#### 12"]
    assert {"#### 22", "no idea"} <= {pair.rejected for pair in pairs if pair.sample_id == "s1"}
    assert all(pair.chosen == SAMPLES[1].solution for pair in pairs if pair.sample_id == "s1")
    first = run.stage(Stage.TRAIN).read_records(LOG_FILE, TrainingStep)[0]
    assert first.loss == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize("method", ["rft", "dpo"])
def test_no_attempt_is_made_where_scoring_made_enough(method: str, make_run: MakeRun, tiny_llama: Path) -> None:
    run = make_run(method, **{"train.method": method, "train.rft.attempts": 1, "train.dpo.attempts": 1})
    run.stage(Stage.SELECT).write_records("selected.jsonl", SAMPLES[:2])
    assert trained(run, tiny_llama).summary["rollouts"] == 0


@pytest.mark.parametrize(
    "settings", [{"train.rft.temperature": 1.0}, {"train.start": "another"}], ids=["temperature", "model"]
)
def test_attempts_at_another_temperature_or_of_another_model_are_not_reused(
    settings: dict[str, Any], make_run: MakeRun, make_llama: Callable[..., Path]
) -> None:
    given = {"train.method": "rft", "train.rft.attempts": 1} | settings
    if "train.start" in settings:
        given["train.start"] = str(make_llama(seed=5))
    summary = run_stage(make_run("run", **given), Stage.TRAIN).summary
    assert (summary["attempts_reused"], summary["rollouts"]) == (0, 3)


class StopInTraining(SilentProgress):
    """Stops the process, as Ctrl-C would, after the first training step."""

    def __init__(self) -> None:
        self.label = ""

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.label = label

    def advance(self, units: int = 1, note: str = "") -> None:
        if self.label == "train":
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["rft", "dpo"])
def test_going_on_makes_no_attempt_again(method: str, make_run: MakeRun, tiny_llama: Path) -> None:
    settings = {"train.method": method, "train.save_every": 1, "train.sft.batch": 1, "train.dpo.batch": 1}
    stopped, undisturbed = make_run("stopped", **settings), make_run("undisturbed", **settings)
    with pytest.raises(KeyboardInterrupt):
        run_stage(stopped, Stage.TRAIN, StopInTraining())
    kept = stopped.stage(Stage.TRAIN).path / "attempts.jsonl"
    before = kept.stat()
    again, straight = trained(stopped, tiny_llama), trained(undisturbed, tiny_llama)
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    unlike = {"seconds_per_step"}
    assert {name: value for name, value in again.summary.items() if name not in unlike} == {
        name: value for name, value in straight.summary.items() if name not in unlike
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"train.method": "rft", "train.rft.with_verified": False, "train.rft.attempts": 1},
            "rft: none of 3 attempts on 2 samples is a solution to learn from (unsolved 3)\n"
            "  next: learn the verified solutions too (train.rft.with_verified), or more train.rft.attempts",
        ),
        (
            {"train.method": "dpo", "train.dpo.verified_chosen": False, "train.dpo.attempts": 1},
            "dpo: 2 samples give no pair of a correct and an incorrect attempt (samples_never_solved 2)\n"
            "  next: more attempts (train.dpo.attempts), or a longer policy.max_new_tokens where they are cut",
        ),
    ],
    ids=["rft", "dpo"],
)
def test_nothing_to_learn_from_is_said(settings: dict[str, Any], message: str, make_run: MakeRun) -> None:
    run = make_run("run", **settings)
    run.stage(Stage.SELECT).write_records("selected.jsonl", SAMPLES[1:])
    run.stage(Stage.SELECT).write_records("attempts.jsonl", [*RECORDED[5:], attempt("s2", "#### 51", Verdict.WRONG)])
    with pytest.raises(RunError) as raised:
        run_stage(run, Stage.TRAIN)
    assert str(raised.value) == message
