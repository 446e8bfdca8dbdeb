"""From a handful of samples to what the full run will take: simulated many times, given as ranges.

Every simulated run draws what the preview leaves uncertain, then plays out the rest of the run:

- Shares (drafts that reach the vote, labels that win it, samples that get a rewrite) from their Beta posterior under
  Jeffreys' prior, Beta(1/2 + yes, 1/2 + no). Drafts beyond the previewed ones go on until there are samples enough or
  drafts are at their most: a negative binomial count, which is right although the preview stopped at a number of
  samples, since the posterior does not depend on when one stops looking.
- Tokens of a call of each kind as lognormal, mean and spread from their conjugate posterior. The prior counts as
  ``_PRIOR_CALLS`` calls seen, which say how much such calls usually vary and nothing of how long they are.
- How many calls of each kind go into further drafts follows from the method of synthesize (instruct/writing.py), times
  the share of those expected so far that were made: a step may be left out where the one before failed.
- Votes on one input are one unit: they are as long as their input makes them.

The ranges are the middle 95% of the simulated runs: what the run is expected to need, its own chance included, if
later drafts are like the first. Duplicates get more frequent in a larger run, which a preview cannot see; nor are
failed tries foreseen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from taskdef.config import RunConfig, SynthesizeConfig
from taskdef.instruct.meter import Meter, Spread, Work
from taskdef.instruct.writing import LAST_STEPS, REWRITING, writing_calls

SIMULATIONS = 4_000
_QUANTILES = (0.025, 0.5, 0.975)
_PRIOR_CALLS = 2.0
_SPREAD_READ = 0.25
"""Usual deviation of the logarithm: prompts differ by their passage only."""
_SPREAD_WRITTEN = 0.5
_WIDEST = 2.0
"""Most that a logarithm may deviate: more than a factor of 50 either way is no spread but a mixture."""

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """The middle of the simulated runs, and the bounds of 95% of them."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> Range:
        return cls(*(float(value) for value in np.quantile(values, _QUANTILES)))

    def holds(self, value: float) -> bool:
        """Whether a figure is inside; half a unit of rounding on either side is."""
        return self.low - 0.5 <= value <= self.high + 0.5


@dataclass(frozen=True)
class Seen:
    """What became of the previewed drafts."""

    drafts: int
    voted: int
    """Drafts that were put to the vote; all that came so far where there is no vote."""
    kept: int
    rewrites: int
    """Kept samples for which a rewrite was asked."""
    rewrites_voted: int
    rewrites_kept: int


@dataclass(frozen=True)
class Projection:
    """The full run, and the part of it that the preview has not asked for yet."""

    drafts: Range
    samples: Range
    pool: Range
    calls: Range
    """Instructor calls that are answered."""
    responses: Range
    read: Range | None
    """Tokens of prompts; None where the endpoint does not count."""
    written: Range | None
    cost: Range | None
    """US dollars; None where the price is not known."""
    rest: Mapping[str, Range]
    """What is left to ask, by ``calls``, ``responses``, ``read``, ``written`` and ``cost`` (0 where it is None)."""
    seconds: Range | None
    """Of asking for the rest; None where no latency was measured."""


def project(
    seen: Seen,
    meter: Meter | None,
    config: RunConfig,
    *,
    exchanges: Sequence[tuple[float, float]] = (),
    other_rewrites: bool = False,
    passages: int = 0,
    seed: int = 0,
) -> Projection:
    """Simulate the rest of the run that ``seen`` and ``meter`` (None: nothing is paid) are the beginning of.

    ``exchanges``: (start, seconds) of the measured calls, for how many were in flight at once. ``other_rewrites``:
    the run may warm the model up first, so that a sample's previewed rewrite may not be the one it will get.
    ``passages``: how many retrieval found.
    """
    rng = np.random.default_rng(seed)
    settings = config.synthesize
    wanted, most = settings.samples, max(seen.drafts, math.floor(settings.max_draft_factor * settings.samples))
    voted = _share(rng, seen.voted, seen.drafts)
    won = _share(rng, seen.kept, seen.voted)
    share = np.maximum(voted * won, 1e-6)
    missing = max(0, wanted - seen.kept)
    drafts = np.zeros(SIMULATIONS)
    if missing:
        drafts = np.minimum(missing + rng.negative_binomial(missing, share), most - seen.drafts).astype(float)
    kept = np.where(drafts >= most - seen.drafts, rng.binomial(drafts.astype(int), share), missing)
    kept = np.minimum(kept, missing)
    lost_at_the_vote = np.clip(voted * (1 - won) / np.maximum(1 - share, 1e-9), 0, 1)
    put_to_vote = kept + rng.binomial((drafts - kept).astype(int), lost_at_the_vote)

    rewrites = np.zeros(SIMULATIONS)
    rewrites_voted = rewrites
    pool = seen.kept + kept
    if config.adapt.enabled:
        again = rng.integers(0, seen.rewrites + 1, SIMULATIONS) if other_rewrites else 0
        to_rewrite = rng.binomial(kept.astype(int), _share(rng, seen.rewrites, seen.kept))
        rewrites = (to_rewrite + again).astype(float)
        voted_again = _share(rng, seen.rewrites_voted, seen.rewrites) if seen.rewrites else voted
        won_again = _share(rng, seen.rewrites_kept, seen.rewrites_voted) if seen.rewrites else won
        rewrites_voted = rng.binomial(rewrites.astype(int), voted_again).astype(float)
        pool = pool + seen.rewrites_kept + rng.binomial(rewrites_voted.astype(int), won_again)

    rest = {name: np.zeros(SIMULATIONS) for name in ("calls", "responses", "read", "written", "cost", "seconds")}
    so_far, is_priced = Work(), False
    if meter is not None:
        so_far = meter.total()
        is_priced = meter.is_priced and so_far.read > 0 and not so_far.unpriced
        writing = _writing_units(settings, seen.drafts, drafts, meter, passages)
        rewriting = [work for purpose in REWRITING if (work := meter.work[purpose]).done]
        alike = [meter.work[purpose] for purpose in writing if purpose in LAST_STEPS]
        kinds = (
            *((units, [meter.work[purpose]]) for purpose, units in writing.items()),
            (rewrites, rewriting or alike),
            (put_to_vote + rewrites_voted, [meter.work["answer"]]),
        )
        for units, works in kinds:
            _add(rest, units, works, meter, config.instruct.max_tokens, rng)
    counts_tokens = so_far.read > 0
    return Projection(
        drafts=Range.of(seen.drafts + drafts),
        samples=Range.of(seen.kept + kept),
        pool=Range.of(pool),
        calls=Range.of(so_far.calls + rest["calls"]),
        responses=Range.of(so_far.responses + rest["responses"]),
        read=Range.of(so_far.read + rest["read"]) if counts_tokens else None,
        written=Range.of(so_far.written + rest["written"]) if counts_tokens else None,
        cost=Range.of(so_far.cost + rest["cost"]) if is_priced else None,
        rest={name: Range.of(values) for name, values in rest.items() if name != "seconds"},
        seconds=_seconds(rest, meter, config, exchanges) if meter is not None else None,
    )


def in_flight(exchanges: Sequence[tuple[float, float]]) -> float:
    """Mean number of calls under way while there was any, from (start, seconds) of each; 1 where there are none."""
    busy, end = 0.0, -math.inf
    for start, seconds in sorted(exchanges):
        busy += max(0.0, start + seconds - max(start, end))
        end = max(end, start + seconds)
    return sum(seconds for _, seconds in exchanges) / busy if busy else 1.0


def further_mean(spread: Spread, units: Floats, usual_spread: float, most: float, rng: np.random.Generator) -> Floats:
    """The mean over ``units`` further calls, one draw a simulated run, each between 1 and ``most``.

    With y = log tokens, n calls seen and a prior of m calls of spread s: sigma^2 ~ (m s^2 + sum (y - mean)^2) /
    chi^2(m + n - 1), mu ~ N(mean, sigma^2 / n); the mean of k lognormal figures is exp(mu + sigma^2 / 2) with a
    relative deviation of sqrt((exp(sigma^2) - 1) / k).
    """
    if not spread.count:
        return np.zeros(len(units))
    freedom = _PRIOR_CALLS + spread.count - 1
    variance = (_PRIOR_CALLS * usual_spread**2 + spread.squares) / rng.chisquare(freedom, len(units))
    variance = np.minimum(variance, _WIDEST**2)
    middle = spread.mean + rng.standard_normal(len(units)) * np.sqrt(variance / spread.count)
    mean = np.exp(middle + variance / 2)
    noise = rng.standard_normal(len(units)) * np.sqrt(np.expm1(variance) / np.maximum(units, 1))
    drawn: Floats = np.clip(mean * (1 + noise), 1.0, most)
    return drawn


def _writing_units(
    settings: SynthesizeConfig, seen: int, drafts: Floats, meter: Meter, passages: int
) -> dict[str, Floats]:
    """By purpose the further calls that ``drafts`` drafts after the ``seen`` ones take, one figure a simulated run."""
    before = writing_calls(settings, seen, passages=passages)
    totals, places = np.unique(seen + drafts, return_inverse=True)
    after = [writing_calls(settings, int(total), passages=passages) for total in totals]
    units = {}
    for purpose, expected in before.items():
        made = min(1.0, meter.work[purpose].done / expected) if expected else 1.0
        further = np.array([float(calls[purpose] - expected) for calls in after])
        units[purpose] = further[places] * made
    return units


def _share(rng: np.random.Generator, yes: int, of: int) -> Floats:
    """Draws from the Beta posterior of a share under Jeffreys' prior."""
    drawn: Floats = rng.beta(yes + 0.5, of - yes + 0.5, SIMULATIONS)
    return drawn


def _add(
    rest: dict[str, Floats],
    units: Floats,
    works: Sequence[Work],
    meter: Meter,
    max_tokens: int,
    rng: np.random.Generator,
) -> None:
    """Add what ``units`` further requests like those of ``works`` take, to each figure of ``rest``."""
    done = sum(work.done for work in works)
    if not done:
        return
    responses = sum(work.responses for work in works) / done
    calls = sum(work.calls for work in works) / done
    read = sum(
        _weighted(work, further_mean(work.read_each, units, _SPREAD_READ, math.inf, rng), done) for work in works
    )
    most_written = max_tokens * max(1.0, responses)
    written = sum(
        _weighted(work, further_mean(work.written_each, units, _SPREAD_WRITTEN, most_written, rng), done)
        for work in works
    )
    total_read = sum(work.read for work in works)
    cached = sum(work.cached for work in works) / total_read if total_read else 0.0
    usual = 1_000  # tokens of a usual call: prices may rise with the length of a prompt
    per_read, per_written = meter.price(usual, 0, usual * cached) or 0.0, meter.price(0, usual) or 0.0
    rest["calls"] = rest["calls"] + units * calls
    rest["responses"] = rest["responses"] + units * responses
    rest["read"] = rest["read"] + units * read
    rest["written"] = rest["written"] + units * written
    rest["cost"] = rest["cost"] + units * (read * per_read + written * per_written) / usual
    rest["seconds"] = rest["seconds"] + units * sum(work.seconds for work in works) / done


def _weighted(work: Work, drawn: Floats, done: int) -> Floats:
    return drawn * (work.done / done)


def _seconds(
    rest: Mapping[str, Floats], meter: Meter, config: RunConfig, exchanges: Sequence[tuple[float, float]]
) -> Range | None:
    """Asking for the rest takes its latencies, divided by the calls in flight: as many as allowed, or as measured.

    Whether an endpoint answers more at once without slowing down shows only under load, so both bounds are given.
    """
    if not rest["seconds"].any():
        return None
    each = [work.seconds / work.calls for work in meter.work.values() if work.calls]
    one_after_another = 4 * max(each)  # draft, votes, rewrite, its votes
    settings = config.instruct
    measured = min(in_flight(exchanges), settings.concurrency)
    at_least = np.full(SIMULATIONS, one_after_another)
    if settings.requests_per_minute:
        at_least = np.maximum(at_least, 60 * rest["calls"] / settings.requests_per_minute)
    if settings.tokens_per_minute:
        at_least = np.maximum(at_least, 60 * (rest["read"] + rest["written"]) / settings.tokens_per_minute)
    low = Range.of(np.maximum(rest["seconds"] / settings.concurrency, at_least))
    high = Range.of(np.maximum(rest["seconds"] / measured, at_least))
    return Range(low.low, math.sqrt(low.middle * high.middle), high.high)
