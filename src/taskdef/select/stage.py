"""Stage 4: pass rates of the starting model on every sample, and the training set chosen by them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskdef.config import SelectConfig
from taskdef.errors import RunError
from taskdef.policy.attempts import AttemptFile, AttemptRounds, Problem
from taskdef.policy.protocol import Policy
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Attempt, PassRate, Sample
from taskdef.select.adaptive import Choice, choose_adaptively
from taskdef.select.pass_rates import pass_rates
from taskdef.select.strategies import choose
from taskdef.verify.isolated import Verifier


@dataclass(frozen=True)
class Selection:
    """What the stage found and chose."""

    rates: tuple[PassRate, ...]
    """One a sample, in the order of the samples."""
    selected: tuple[Sample, ...]
    """The training set, best first."""
    agreement: float = 1.0
    """Expected share of the fixed choice that an adaptive one found; 1 for the fixed choice itself."""

    def summary(self) -> dict[str, Any]:
        """The figures for the manifest."""
        known = [rate.rate for rate in self.rates if rate.rate is not None]
        chosen = {sample.id for sample in self.selected}
        of_chosen = [rate.rate for rate in self.rates if rate.sample_id in chosen and rate.rate is not None]
        return {
            "scored": len(self.rates),
            "attempts": sum(rate.attempts + rate.verifier_errors for rate in self.rates),
            "expected_agreement": round(self.agreement, 4),
            "kept": len(self.selected),
            "never_solved": sum(rate == 0 for rate in known),
            "always_solved": sum(rate == 1 for rate in known),
            "high_potential": sum(0 < rate < 1 for rate in known),
            "mean_pass_rate": statistics.fmean(known) if known else None,
            "mean_pass_rate_selected": statistics.fmean(of_chosen) if of_chosen else None,
            "verifier_errors": sum(rate.verifier_errors for rate in self.rates),
        }


def select_samples(
    samples: Sequence[Sample],
    config: SelectConfig,
    *,
    policy: Policy,
    verifier: Verifier,
    seed: int,
    file: AttemptFile | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Score every sample by attempts of the policy, as many as ``config.rollouts`` says, and choose by
    ``config.strategy``.

    The policy must be the one training starts from. Raises RunError where nothing can be chosen.
    """
    if not samples:
        raise RunError(
            "no samples reached selection", next_step="look at the drops of the earlier stages: taskdef show"
        )
    rounds = AttemptRounds(
        policy,
        temperature=config.temperature,
        seed=seed,
        label="score",
        verifier=verifier,
        progress=progress or SilentProgress(),
        file=file,
    )
    attempts: list[Attempt] = []

    def attempt(places: Sequence[int], count: int) -> list[PassRate]:
        note = f": {len(places)} still open" if attempts else ""
        attempts.extend(rounds.make([Problem.of(samples[place]) for place in places], count, note))
        return pass_rates(samples, attempts)

    if config.rollouts == "adaptive":
        choice = choose_adaptively(samples, config, seed=seed, attempt=attempt)
    else:
        rates = attempt(range(len(samples)), config.rollouts)
        chosen = choose(samples, rates, strategy=config.strategy, size=config.size, seed=seed)
        choice = Choice(tuple(rates), tuple(chosen), agreement=1.0)
    rounds.finish()
    if not choice.selected:
        raise RunError(
            "no sample has a pass rate: every attempt ended in a verifier error",
            next_step="taskdef check shows whether the answer section reads the demos and test rows",
        )
    return Selection(rates=choice.rates, selected=choice.selected, agreement=choice.agreement)
