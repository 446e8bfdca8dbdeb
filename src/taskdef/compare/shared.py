"""What the runs of a comparison had in common: counted from their artifacts, and checked against the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from taskdef.compare.comparison import Comparison
from taskdef.compare.facts import Facts, Taken
from taskdef.records import Stage
from taskdef.sharing import PARTS, stage_key
from taskdef.store import STAGES, RunDirectory


@dataclass(frozen=True)
class Shared:
    """What was done once for several runs; of finished runs."""

    stages: Mapping[Stage, tuple[int, int]]
    """(computed, taken over from another run)."""
    attempts: tuple[float, float]
    """Completions of models, those of training included: (made, taken over from another run)."""
    answers: tuple[float, float]
    """Instructor answers: (asked for, taken over from another run)."""
    twice: int
    """Stages with equal settings and inputs that were computed more than once. Must be 0."""
    paid: Taken
    """What all runs together took."""
    alone: Taken
    """What they would have taken one by one, but that instructor answers out of the shared cache cost nothing here."""


def count_shared(comparison: Comparison, facts: Mapping[str, Facts]) -> Shared:
    """Stages are the same where their keys are, attempts where what they depend on is (taskdef.sharing)."""
    runs = [run for run in comparison.begun_runs() if run.path.name in facts]
    keys = {(run.path.name, stage): stage_key(run, stage) for run in runs for stage in STAGES}
    owner: dict[tuple[Stage, str], str] = {}
    for (name, stage), key in keys.items():
        owner.setdefault((stage, key), name)
    paid = Taken()
    known: set[tuple[str, str]] = set()
    for run in runs:
        for stage in STAGES:
            if owner[stage, keys[run.path.name, stage]] == run.path.name:
                taken = facts[run.path.name].taken[stage]
                count, tokens = _taken_over(run, stage, facts[run.path.name], known)
                paid += replace(
                    taken, completions=taken.completions - count, tokens_sampled=taken.tokens_sampled - tokens
                )
    alone = sum((fact.all_taken for fact in facts.values()), Taken())
    computed = Counter((entry.run, entry.stage) for entry in comparison.journal() if entry.event == "computed")
    by_key = Counter((stage, key) for (name, stage), key in keys.items() if computed[name, stage])
    return Shared(
        stages={
            stage: (sum(of is stage for of, _ in owner), len(runs) - sum(of is stage for of, _ in owner))
            for stage in STAGES
        },
        attempts=(paid.completions, alone.completions - paid.completions),
        answers=(paid.answers, alone.answers - paid.answers + paid.from_cache),
        twice=sum(count - 1 for count in [*computed.values(), *by_key.values()]),
        paid=paid,
        alone=alone,
    )


def _taken_over(run: RunDirectory, stage: Stage, facts: Facts, known: set[tuple[str, str]]) -> tuple[int, int]:
    """Attempts (and their tokens) of a stage that an earlier run had made; what is new is added to ``known``."""
    attempts = tokens = 0
    for part in PARTS.get(stage, ()):
        key = part.key(run)
        for name in part.files:
            if (stage, name) in facts.sampled:
                if (key, name) in known:
                    attempts += facts.sampled[stage, name][0]
                    tokens += facts.sampled[stage, name][1]
                known.add((key, name))
    return attempts, tokens
