"""Fewer attempts for the same choice? Adaptive scoring against 64 attempts on every sample, side by side.

    python benchmarks/adaptive_scoring.py [--recorded RUN ...] [--strategy high-potential] [--svg FILE]

Attempts are played back, so both sides see the same ones and nothing is sampled. Pools are simulated (rates drawn from
mixtures, attempts from the rates) and recorded: RUN is a run whose select stage was done with a fixed number, as

    taskdef run RUN --until select --fresh select --set select.rollouts=64

leaves it. Each pool is chosen from at several sizes M, with several seeds. Printed for each:

- spent: attempts of the adaptive scoring, as a share of all;
- agree: share of the fixed choice's samples that the adaptive choice holds (mean over seeds, and the least of them);
- expect: what the adaptive scoring itself expected of that;
- again: share of the fixed choice that another 64 attempts on every sample would choose again (simulated pools only);
- rate and diff: mean rate of the fixed choice's samples, and how far the adaptive choice's is from it, by the true rate
  in simulated pools, by all recorded attempts in recorded ones;
- prefills: how often a prompt is read (once by a fixed scoring).

Then the trade-off: the same over all pools for other values of select.agreement, beside fewer attempts on every sample.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskdef.config import SelectConfig
from taskdef.records import Attempt, PassRate, Sample, Stage, Verdict
from taskdef.select.adaptive import choose_adaptively
from taskdef.select.strategies import choose
from taskdef.store import RunDirectory

Rates = NDArray[np.float64]
Outcomes = NDArray[np.int64]

ATTEMPTS = 64
SHARES = (0.1, 0.25, 0.5, 0.8)
AGREEMENTS = (0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)
FEWER = (8, 16, 24, 32, 48)


def with_zeros(generator: np.random.Generator, count: int) -> Rates:
    return np.where(generator.random(count) < 0.6, 0, generator.beta(0.6, 3, count))


def two_humps(generator: np.random.Generator, count: int) -> Rates:
    return np.where(generator.random(count) < 0.5, generator.beta(1, 12, count), generator.beta(12, 1, count))


MIXTURES: dict[str, Callable[[np.random.Generator, int], Rates]] = {
    "60% never, else Beta(.6,3)": with_zeros,
    "Beta(.15,1.5), near 0": lambda generator, count: generator.beta(0.15, 1.5, count),
    "Beta(1,8), low": lambda generator, count: generator.beta(1, 8, count),
    "uniform": lambda generator, count: generator.random(count),
    "Beta(5,5), middling": lambda generator, count: generator.beta(5, 5, count),
    "two humps": two_humps,
    "Beta(6,1), mostly solved": lambda generator, count: generator.beta(6, 1, count),
}


@dataclass(frozen=True)
class Pool:
    """Samples with all their attempts."""

    name: str
    seed: int
    outcomes: Outcomes
    """samples x attempts, 1 where solved."""
    rates: Rates
    """What choices are judged by: the true rate, or that of all recorded attempts."""
    again: Outcomes | None
    """Other attempts of the same shape; none of a recorded pool."""
    shares: tuple[float, ...] = SHARES
    """The sizes M to choose, as shares of the samples; a recorded pool's own size is among them."""


@dataclass(frozen=True)
class Result:
    """One choice beside the fixed one."""

    spent: float
    agree: float
    expect: float
    again: float | None
    rate: float
    diff: float
    prefills: float


def simulated(name: str, seed: int, count: int) -> Pool:
    generator = np.random.default_rng(seed)
    rates = MIXTURES[name](generator, count)
    outcomes, again = ((generator.random((count, ATTEMPTS)) < rates[:, None]).astype(int) for _ in range(2))
    return Pool(name, seed, outcomes, rates, again)


def recorded(path: Path, seed: int) -> Pool:
    """A run's scored attempts. Attempts without a verdict would need another fixed choice; there must be none."""
    run = RunDirectory.open(path)
    by_sample: dict[str, list[int]] = {}
    for attempt in run.stage(Stage.SELECT).read_records("attempts.jsonl", Attempt):
        if attempt.verdict is Verdict.VERIFIER_ERROR:
            raise SystemExit(f"{path}: {attempt.sample_id} has a verifier error; take another run")
        by_sample.setdefault(attempt.sample_id, []).append(int(attempt.verdict is Verdict.CORRECT))
    lengths = {len(outcomes) for outcomes in by_sample.values()}
    if len(lengths) != 1:
        raise SystemExit(f"{path}: {min(lengths)} to {max(lengths)} attempts a sample; score it with a fixed number")
    outcomes = np.array(list(by_sample.values()))
    own = min(1.0, run.config.select.size / len(outcomes))
    name = f"{path.name}, {outcomes.shape[1]} attempts"
    return Pool(name, seed, outcomes, outcomes.mean(axis=1), None, tuple(sorted({*SHARES, own})))


class Playback:
    """Hands out the attempts of a pool, and counts."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.solved = np.concatenate([np.zeros((len(outcomes), 1), dtype=int), np.cumsum(outcomes, axis=1)], axis=1)
        self.made = np.zeros(len(outcomes), dtype=int)
        self.prefills = 0

    def __call__(self, places: Sequence[int], count: int) -> list[PassRate]:
        self.made[list(places)] += count
        self.prefills += len(places)
        solved = self.solved[np.arange(len(self.made)), self.made]
        return [
            PassRate(sample_id=f"s{place}", attempts=int(made), correct=int(correct))
            for place, (made, correct) in enumerate(zip(self.made, solved, strict=True))
        ]


def samples_of(pool: Pool) -> list[Sample]:
    return [Sample(id=f"s{place}", input="", solution="", answer="") for place in range(len(pool.outcomes))]


def places_of(chosen: Sequence[Sample]) -> list[int]:
    return [int(sample.id[1:]) for sample in chosen]


def fixed_choice(pool: Pool, outcomes: Outcomes, config: SelectConfig, attempts: int) -> list[int]:
    """The choice by the first attempts on every sample."""
    rates = Playback(outcomes)(range(len(outcomes)), attempts)
    return places_of(choose(samples_of(pool), rates, strategy=config.strategy, size=config.size, seed=pool.seed))


def compare(pool: Pool, config: SelectConfig, fewer: int | None = None) -> Result:
    """The adaptive choice beside the fixed one; with ``fewer``, that many attempts on every sample instead."""
    reference = fixed_choice(pool, pool.outcomes, config, config.attempts)
    if fewer is None:
        playback = Playback(pool.outcomes)
        choice = choose_adaptively(samples_of(pool), config, seed=pool.seed, attempt=playback)
        chosen, expect = places_of(choice.selected), choice.agreement
        spent, prefills = playback.made.mean() / config.attempts, playback.prefills / len(pool.outcomes)
    else:
        chosen, expect = fixed_choice(pool, pool.outcomes, config, fewer), float("nan")
        spent, prefills = fewer / config.attempts, 1.0
    again = None if pool.again is None else fixed_choice(pool, pool.again, config, config.attempts)
    return Result(
        spent=float(spent),
        agree=len({*chosen} & {*reference}) / len(reference),
        expect=expect,
        again=None if again is None else len({*again} & {*reference}) / len(reference),
        rate=float(pool.rates[reference].mean()),
        diff=float(pool.rates[chosen].mean() - pool.rates[reference].mean()),
        prefills=prefills,
    )


def config_of(pool: Pool, share: float, strategy: str, agreement: float) -> SelectConfig:
    count, attempts = pool.outcomes.shape
    values = {"strategy": strategy, "size": round(share * count), "attempts": attempts, "agreement": agreement}
    return SelectConfig.model_validate(values)


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def print_table(pools: Sequence[Pool], strategy: str, agreement: float) -> list[Result]:
    """One line for each kind of pool and size; gives all single results."""
    print(f"{'pool':27} {'M':>4} {'spent':>6} {'agree':>6} {'least':>6} {'expect':>6} {'again':>6} ", end="")
    print(f"{'rate':>6} {'diff':>7} {'prefills':>8}")
    everything = []
    for name in dict.fromkeys(pool.name for pool in pools):
        alike = [pool for pool in pools if pool.name == name]
        for share in alike[0].shares:
            rows = [compare(pool, config_of(pool, share, strategy, agreement)) for pool in alike]
            everything += rows
            again = [row.again for row in rows if row.again is not None]
            print(
                f"{name:27} {share:4.0%} {mean([row.spent for row in rows]):6.1%} "
                f"{mean([row.agree for row in rows]):6.1%} {min(row.agree for row in rows):6.1%} "
                f"{mean([row.expect for row in rows]):6.1%} {f'{mean(again):6.1%}' if again else '     -'} "
                f"{mean([row.rate for row in rows]):6.3f} {mean([row.diff for row in rows]):+7.3f} "
                f"{mean([row.prefills for row in rows]):8.1f}",
                flush=True,
            )
    return everything


def summary(rows: Sequence[Result]) -> tuple[float, float, float, float]:
    """Mean share spent, mean agreement, largest difference of mean rates, mean number of prefills."""
    return (
        mean([row.spent for row in rows]),
        mean([row.agree for row in rows]),
        max(abs(row.diff) for row in rows),
        mean([row.prefills for row in rows]),
    )


def print_trade_off(pools: Sequence[Pool], strategy: str) -> dict[str, list[tuple[float, float]]]:
    """Means over all pools and sizes; gives the points (share spent, agreement) of both curves."""
    curves: dict[str, list[tuple[float, float]]] = {"adaptive": [], "fewer on every sample": []}
    print(f"\n{'':28} {'spent':>6} {'agree':>6} {'most diff':>9} {'prefills':>8}")
    settings: list[tuple[str, float, int | None]] = [("adaptive", agreement, None) for agreement in AGREEMENTS]
    settings += [("fewer on every sample", 1.0, fewer) for fewer in FEWER]
    for curve, agreement, fewer in settings:
        rows = [
            compare(pool, config_of(pool, share, strategy, agreement), fewer)
            for pool in pools
            if fewer is None or fewer < pool.outcomes.shape[1]
            for share in pool.shares
        ]
        if not rows:
            continue
        spent, agree, most, prefills = summary(rows)
        label = f"adaptive, agreement {agreement}" if fewer is None else f"{fewer} on every sample"
        print(f"{label:28} {spent:6.1%} {agree:6.1%} {most:9.3f} {prefills:8.1f}", flush=True)
        curves[curve].append((spent, agree))
    return curves


def draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """The trade-off as a picture: agreement (50% to 100%) over attempts spent (0 to 100%)."""
    width, height, margin = 560, 360, 50

    def at(spent: float, agree: float) -> tuple[float, float]:
        return margin + spent * (width - 2 * margin), height - margin - (agree - 0.5) * 2 * (height - 2 * margin)

    parts = []
    for tenth in range(0, 11, 2):
        (x, y), (_, top), (left, across) = at(tenth / 10, 0.5), at(0, 1), at(0, 0.5 + tenth / 20)
        parts.append(f'<path d="M{x:.0f} {y:.0f}V{top:.0f}M{left:.0f} {across:.0f}H{width - margin}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{tenth * 10}%</text>')
        parts.append(f'<text x="{left - 6:.0f}" y="{across + 4:.0f}" text-anchor="end">{50 + tenth * 5}%</text>')
    for number, ((name, points), colour) in enumerate(zip(curves.items(), ("#0b6e99", "#b5651d"), strict=True)):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in (at(*p) for p in points)]
        parts.append(
            f'<text x="{width - margin}" y="{height - 84 + 18 * number}" text-anchor="end" ',
        )
        parts.append(f'fill="{colour}">{name}</text>')
    parts.append(f'<text x="{width / 2:.0f}" y="{height - 12}" text-anchor="middle">attempts spent</text>')
    parts.append(f'<text x="{margin}" y="24">samples of the fixed choice found</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
    path.write_text(f'{head}font-size="12">{"".join(parts)}</svg>\n', encoding="utf-8")


def main() -> None:
    """Print the table and the trade-off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, nargs="+", default=[], metavar="RUN")
    parser.add_argument("--no-simulation", action="store_true", help="recorded pools only")
    parser.add_argument("--strategy", choices=["high-potential", "easy", "hard"], default="high-potential")
    parser.add_argument("--agreement", type=float, default=SelectConfig().agreement)
    parser.add_argument("--samples", type=int, default=400, help="of a simulated pool")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--svg", type=Path, help="where to draw the trade-off")
    arguments = parser.parse_args()
    pools = [recorded(path, seed) for path in arguments.recorded for seed in arguments.seeds]
    if not arguments.no_simulation:
        pools += [simulated(name, seed, arguments.samples) for name in MIXTURES for seed in arguments.seeds]
    rows = print_table(pools, arguments.strategy, arguments.agreement)
    spent, agree, most, prefills = summary(rows)
    print(f"\nall: {spent:.1%} spent, {agree:.1%} agree, rates differ by {most:.3f} at most, {prefills:.1f} prefills")
    curves = print_trade_off(pools, arguments.strategy)
    if arguments.svg:
        draw(curves, arguments.svg)


if __name__ == "__main__":
    main()
