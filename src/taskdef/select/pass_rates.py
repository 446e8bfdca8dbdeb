"""Pass rates: how often the model that training starts from solves each sample (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from taskdef.records import Attempt, PassRate, Sample, Verdict


def pass_rates(samples: Sequence[Sample], attempts: Sequence[Attempt]) -> list[PassRate]:
    """One record a sample, in the order of the samples.

    A verifier error is missing data: it counts neither as an attempt nor as a failure.
    """
    by_sample: dict[str, list[Attempt]] = {sample.id: [] for sample in samples}
    for attempt in attempts:
        by_sample[attempt.sample_id].append(attempt)
    return [_pass_rate(sample.id, by_sample[sample.id]) for sample in samples]


def _pass_rate(sample_id: str, attempts: Sequence[Attempt]) -> PassRate:
    verdicts = [attempt.verdict for attempt in attempts]
    errors = verdicts.count(Verdict.VERIFIER_ERROR)
    return PassRate(
        sample_id=sample_id,
        attempts=len(verdicts) - errors,
        correct=verdicts.count(Verdict.CORRECT),
        no_answer=verdicts.count(Verdict.NO_ANSWER),
        truncated=verdicts.count(Verdict.TRUNCATED),
        verifier_errors=errors,
        mean_tokens=sum(attempt.token_count for attempt in attempts) / len(attempts) if attempts else 0.0,
    )
