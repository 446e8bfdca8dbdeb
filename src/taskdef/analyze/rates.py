"""Pass rates: those that scoring measured, and those of human rows, measured the same way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from taskdef.analyze.records import Rates
from taskdef.analyze.sets import HumanRow, TextSet
from taskdef.config import digest
from taskdef.policy.attempts import AttemptFile, Problem, attempt_problems
from taskdef.policy.protocol import Policy
from taskdef.progress import Progress
from taskdef.records import Attempt, PassRate, Stage, Verdict
from taskdef.report.gather import Artifacts
from taskdef.store import RunDirectory, StageDirectory
from taskdef.verify.isolated import Verifier


class AnalysisDirectory(StageDirectory):
    """The folder of an analysis inside a run: no stage, but files of the same kind."""

    def __init__(self, run: RunDirectory, path: Path | None = None) -> None:
        super().__init__(run, Stage.EVALUATE)
        self.path = path or run.path / "analysis"


def scored_rates(sets: Sequence[TextSet], artifacts: Artifacts) -> list[Rates]:
    """Of each set that was scored; empty before scoring is done."""
    if not artifacts.pass_rates:
        return []
    found = []
    for one in sets:
        known = [artifacts.pass_rates[i] for i in one.ids if i in artifacts.pass_rates]
        rates = [(rate.attempts, rate.rate) for rate in known if rate.rate is not None]
        found.append(
            Rates(
                name=one.name,
                attempts=tuple(attempts for attempts, _ in rates),
                rates=tuple(rate for _, rate in rates),
                missing=len(one.ids) - len(rates),
            )
        )
    return found


def human_rates(
    rows: Sequence[HumanRow],
    policy: Policy,
    directory: AnalysisDirectory,
    *,
    most_rows: int,
    attempts: int,
    verifier: Verifier,
    progress: Progress,
) -> Rates:
    """``attempts`` attempts of the policy on each of up to ``most_rows`` rows, at the temperature of scoring.

    They are kept in the folder under a name that says what they belong to, so that asking again makes none anew and a
    kill costs one chunk.
    """
    run = directory.run
    readable = [row for row in rows if row.answer is not None]
    drawn = random.Random(f"{run.config.seed} human").sample(readable, min(most_rows, len(readable)))
    problems = [Problem(id=row.id, input=row.input, gold=row.answer or "") for row in drawn]
    # Rows, model, prompt and limits decide the attempts: other ones belong into another file. A warm-up's model is
    # another one where the stages before scoring were done again.
    decisive = [run.settings_digest(Stage.SELECT), run.stage(Stage.SELECT).inputs()]
    of = digest([[vars(problem) for problem in problems], attempts, *decisive])
    directory.open()
    made = attempt_problems(
        policy,
        problems,
        count=attempts,
        temperature=run.config.select.temperature,
        seed=run.config.seed,
        label="attempt human rows",
        verifier=verifier,
        progress=progress,
        file=AttemptFile(directory, f"human-attempts-{of[:12]}.jsonl"),
    )
    counted = [_rate(made[start : start + attempts]) for start in range(0, len(made), attempts)]
    rates = [(rate.attempts, rate.rate) for rate in counted if rate.rate is not None]
    return Rates(
        name="human",
        attempts=tuple(number for number, _ in rates),
        rates=tuple(rate for _, rate in rates),
        missing=len(rows) - len(rates),
    )


def _rate(attempts: Sequence[Attempt]) -> PassRate:
    verdicts = [attempt.verdict for attempt in attempts]
    return PassRate(
        sample_id=attempts[0].sample_id,
        attempts=len(verdicts) - verdicts.count(Verdict.VERIFIER_ERROR),
        correct=verdicts.count(Verdict.CORRECT),
    )
