"""What one run came to, read from its artifacts: answers on the held-out rows, sizes, and what it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskdef.records import Attempt, Manifest, PassRate, Stage, TrainingStep, Verdict
from taskdef.store import RunDirectory, StageDirectory


@dataclass(frozen=True)
class Answers:
    """One model's answers to the held-out rows, by row id; rows on which the verifier failed are left out."""

    strict: Mapping[str, bool]
    lenient: Mapping[str, bool]
    missing: int
    """Rows left out of ``strict``."""


@dataclass(frozen=True)
class Taken:
    """What some stages took. Of an instructor that is a program, answers cost nothing and have no tokens."""

    answers: float = 0
    """Instructor answers that were asked for and given."""
    from_cache: float = 0
    """Those that another run had asked for."""
    tokens_read: float = 0
    tokens_written: float = 0
    cost: float = 0.0
    """US dollars, as far as prices are known."""
    unpriced: float = 0
    """Calls of unknown cost."""
    completions: float = 0
    """Completions of the base model and its successors."""
    tokens_sampled: float = 0
    """Their tokens; those of training are reckoned from its log's mean lengths."""
    seconds: float = 0.0

    def __add__(self, other: Taken) -> Taken:
        return Taken(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def __truediv__(self, runs: int) -> Taken:
        return Taken(*(getattr(self, name) / runs for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Facts:
    """One finished run."""

    run: str
    models: Mapping[str, Answers]
    """``base``, ``warm_up`` where there was one, ``tuned``."""
    sizes: Mapping[str, int | float | None]
    """``initial`` and ``scored`` samples, ``selected`` ones, training ``steps``, ``rollouts``, ``attempts`` (mean a
    scored sample)."""
    taken: Mapping[Stage, Taken]
    """Of a stage with all its attempts, those taken over from another run included."""
    sampled: Mapping[tuple[Stage, str], tuple[int, int]]
    """Attempts and their tokens, by stage and file."""
    dropped: Mapping[str, int]
    """Drafts and samples that left the data's path, by reason."""
    overlap: int
    """Held-out rows found among the inputs scored or trained on."""

    @property
    def all_taken(self) -> Taken:
        return sum(self.taken.values(), Taken())


def read_facts(run: RunDirectory) -> Facts:
    """Read a finished run. Raises RunError where an artifact is missing or damaged."""
    manifests = {directory.stage: directory.manifest() for directory in run.stages()}
    selected, evaluated = manifests[Stage.SELECT], manifests[Stage.EVALUATE]
    training = manifests[Stage.TRAIN].summary
    rates = run.stage(Stage.SELECT).read_records("pass_rates.jsonl", PassRate)
    tries = [rate.attempts + rate.verifier_errors for rate in rates]
    dropped: Counter[str] = Counter()
    for stage in (Stage.SYNTHESIZE, Stage.ADAPT):
        dropped.update(manifests[stage].summary.get("dropped", {}))
    sampled = {
        (stage, name): _sampled(run.stage(stage), name)
        for stage, manifest in manifests.items()
        for name in manifest.outputs
        if name.startswith("attempts-") or (stage is Stage.SELECT and name == "attempts.jsonl")
    }
    models = list(run.stage(Stage.EVALUATE).read_json("evaluation.json")["models"])
    return Facts(
        run=run.path.name,
        models={model: _answers(run.stage(Stage.EVALUATE), model) for model in models},
        sizes={
            "initial": manifests[Stage.SYNTHESIZE].summary["kept"],
            "scored": selected.summary["scored"],
            "selected": selected.summary["kept"],
            "steps": training["steps"],
            "rollouts": training.get("rollouts", 0),
            "attempts": sum(tries) / len(tries) if tries else None,
        },
        taken={stage: _taken(run, stage, manifest, sampled) for stage, manifest in manifests.items()},
        sampled=sampled,
        dropped=dict(dropped),
        # what is trained on was scored too: the sum would count a row twice
        overlap=max(evaluated.summary["overlap"].values(), default=0),
    )


def _answers(directory: StageDirectory, model: str) -> Answers:
    attempts = directory.read_records(f"attempts-{model}.jsonl", Attempt)
    strict = {one.sample_id: one.verdict for one in attempts}
    lenient = {one.sample_id: one.lenient_verdict or Verdict.VERIFIER_ERROR for one in attempts}
    judged = [
        {row: verdict is Verdict.CORRECT for row, verdict in verdicts.items() if verdict is not Verdict.VERIFIER_ERROR}
        for verdicts in (strict, lenient)
    ]
    return Answers(judged[0], judged[1], len(strict) - len(judged[0]))


def _taken(
    run: RunDirectory, stage: Stage, manifest: Manifest, sampled: Mapping[tuple[Stage, str], tuple[int, int]]
) -> Taken:
    spending: Mapping[str, Any] = manifest.summary.get("spending") or {}
    completions = sum(count for (of, _), (count, _) in sampled.items() if of is stage)
    tokens = sum(count for (of, _), (_, count) in sampled.items() if of is stage)
    if stage is Stage.TRAIN:
        completions, tokens = _rollouts(run.stage(stage), manifest)
    return Taken(
        # a program's answers are counted as calls
        answers=spending.get("responses", 0) or spending.get("calls", 0),
        from_cache=spending.get("from_cache", 0),
        tokens_read=spending.get("prompt_tokens", 0),
        tokens_written=spending.get("completion_tokens", 0),
        cost=spending.get("cost", 0.0),
        unpriced=spending.get("unpriced", 0),
        completions=completions,
        tokens_sampled=tokens,
        seconds=manifest.seconds,
    )


def _sampled(directory: StageDirectory, name: str) -> tuple[int, int]:
    lengths = [attempt.token_count for attempt in directory.read_records(name, Attempt)]
    return len(lengths), sum(lengths)


def _rollouts(directory: StageDirectory, manifest: Manifest) -> tuple[int, int]:
    """Completions that training sampled, and their tokens by the log's mean lengths."""
    log = directory.read_records("log.jsonl", TrainingStep)
    lengths = [step.completion_length for step in log if step.completion_length is not None]
    rollouts = int(manifest.summary.get("rollouts", 0))
    return rollouts, round(rollouts * sum(lengths) / len(lengths)) if lengths else 0
