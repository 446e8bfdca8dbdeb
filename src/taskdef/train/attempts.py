"""Attempts of the starting model that RFT and DPO learn from: those that scoring made, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from taskdef.policy.attempts import AttemptFile, AttemptRounds, Problem
from taskdef.records import Attempt
from taskdef.train.job import TrainingJob

ATTEMPTS_FILE = "attempts.jsonl"


@dataclass(frozen=True)
class Gathered:
    """All attempts on the training set."""

    by_sample: Mapping[str, list[Attempt]]
    """In the order they were made, by sample id; every sample has a list."""
    recorded: int
    """How many of them scoring had made."""
    made: int
    """How many were made for this training: its rollouts."""


def gather_attempts(job: TrainingJob, *, count: int, temperature: float) -> Gathered:
    """At least ``count`` attempts on each of the job's samples at a temperature.

    Recorded ones are taken where they were made at that temperature; what is missing is made and appended to
    ``attempts.jsonl`` in the stage's folder, so that an interrupted training goes on. Raises RunError where attempts on
    disk belong to other samples.
    """
    usable = job.recorded if temperature == job.config.select.temperature else ()
    by_sample: dict[str, list[Attempt]] = {sample.id: [] for sample in job.samples}
    for attempt in usable:
        if attempt.sample_id in by_sample:
            by_sample[attempt.sample_id].append(attempt)
    recorded = sum(map(len, by_sample.values()))
    rounds = AttemptRounds(
        job.policy,
        temperature=temperature,
        seed=job.config.seed,
        label="attempt training set",
        verifier=job.verifier,
        progress=job.progress,
        file=AttemptFile(job.directory, ATTEMPTS_FILE),
    )
    missing = {sample.id: count - len(by_sample[sample.id]) for sample in job.samples}
    made = 0
    # a round makes the same number on each of its problems
    for lacking in sorted({number for number in missing.values() if number > 0}):
        problems = [Problem.of(sample) for sample in job.samples if missing[sample.id] == lacking]
        for attempt in rounds.make(problems, lacking, f": {lacking} each"):
            by_sample[attempt.sample_id].append(attempt)
            made += 1
    rounds.finish()
    return Gathered(by_sample, recorded, made)
