"""From the runs of a comparison to its table: means over seeds, intervals, tests against the reference, costs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from taskdef.compare.comparison import Comparison
from taskdef.compare.facts import Answers, Facts, Taken, read_facts
from taskdef.compare.shared import Shared, count_shared
from taskdef.evaluate.seeds import Estimate, accuracy_over_seeds, deviation_over_seeds, difference_over_seeds
from taskdef.evaluate.statistics import Floats, holm, mcnemar_exact, paired_bootstrap

SIZES = ("selected", "steps", "attempts")
"""The sizes that should be equal."""


@dataclass(frozen=True)
class Score:
    """Accuracy of some models on the rows, read strictly; shares in [0, 1]."""

    estimate: Estimate
    deviation: float | None
    """Standard deviation over the seeds; None for one."""
    by_seed: Mapping[int, float]
    lenient: float
    """Mean accuracy under lenient reading."""
    rows: int
    missing: int
    """Answers that no verdict was found for, over all seeds."""


@dataclass(frozen=True)
class Test:
    """A variant against the reference, on the same rows and seeds."""

    __test__ = False

    difference: Estimate
    """Over seeds and rows; with one seed McNemar's exact p."""
    adjusted: float | None = None
    """p by Holm over all variants."""
    rows_only: tuple[float, float, float] | None = None
    """Paired bootstrap over the rows, for the models as they came out: low, high, p."""
    by_seed: Mapping[int, float] = field(default_factory=dict)
    """McNemar's exact p of each seed."""


@dataclass(frozen=True)
class Line:
    """One variant in the table."""

    variant: str
    title: str
    is_reference: bool
    seeds: tuple[int, ...]
    """The finished ones."""
    state: str
    """Empty where all seeds are finished; else what is missing, and why."""
    score: Score | None = None
    base: Score | None = None
    warm_up: Score | None = None
    """None too where only some seeds had one."""
    gain: float | None = None
    """Accuracy over that of its base model."""
    test: Test | None = None
    sizes: Mapping[str, float | None] = field(default_factory=dict)
    """Means over the seeds."""
    differs: tuple[str, ...] = ()
    """Sizes that are not the reference's."""
    taken: Taken | None = None
    """Mean over the seeds, as if nothing had been shared but instructor answers."""
    dropped: Mapping[str, float] = field(default_factory=dict)
    overlap: int = 0
    same_as: str = ""
    """An earlier variant with the very same runs."""


@dataclass(frozen=True)
class Results:
    """Everything that the pages show."""

    lines: tuple[Line, ...]
    """In the plan's order."""
    shared: Shared
    failures: tuple[tuple[str, str], ...]
    """(cell, reason) of runs whose last try failed."""

    @property
    def is_complete(self) -> bool:
        return not any(line.state for line in self.lines)


def read_results(comparison: Comparison) -> Results:
    """Read all finished runs. Raises RunError where an artifact of one is missing or damaged."""
    matrix = comparison.matrix
    facts = {run.path.name: read_facts(run) for run in comparison.begun_runs() if run.next_stage() is None}
    failures = _failures(comparison)
    lines = [_line(comparison, variant, facts, failures) for variant in matrix.plan.variants]
    return Results(tuple(_tested(comparison, lines, facts)), count_shared(comparison, facts), tuple(failures.items()))


def _failures(comparison: Comparison) -> dict[str, str]:
    """Cells whose run failed and has not been finished since, with the reason."""
    last = {entry.run: entry for entry in comparison.journal()}
    return {
        cell.name: f"{last[cell.run].stage.value}: {last[cell.run].message}"
        for cell in comparison.matrix.runs()
        if cell.run in last and last[cell.run].event == "failed"
    }


def _line(comparison: Comparison, variant: str, facts: Mapping[str, Facts], failures: Mapping[str, str]) -> Line:
    matrix = comparison.matrix
    cells = matrix.of(variant)
    done = [(cell.seed, facts[cell.run]) for cell in cells if cell.run in facts]
    seeds = tuple(seed for seed, _ in done)
    failed = [cell for cell in cells if cell.name in failures]
    parts = [f"{len(done)} of {len(cells)} seeds"] if len(done) < len(cells) else []
    parts += [f"failed: {failures[failed[0].name]}"] if failed else []
    names = [matrix.plan.reference, *matrix.plan.variants]
    first = next(name for name in names if [cell.run for cell in matrix.of(name)] == [cell.run for cell in cells])
    named = {
        "variant": variant,
        "title": matrix.title(variant),
        "is_reference": variant == matrix.plan.reference,
        "same_as": "" if first == variant else matrix.title(first),
    }
    if not done:
        return Line(**named, seeds=(), state="; ".join(parts))  # type: ignore[arg-type]
    score = _score([(seed, fact.models["tuned"]) for seed, fact in done])
    base = _score([(seed, fact.models["base"]) for seed, fact in done])
    warm_up = [(seed, fact.models["warm_up"]) for seed, fact in done if "warm_up" in fact.models]
    dropped: Counter[str] = Counter()
    for _, fact in done:
        dropped.update(fact.dropped)
    return Line(
        **named,  # type: ignore[arg-type]
        seeds=seeds,
        state="; ".join(parts),
        score=score,
        base=base,
        warm_up=_score(warm_up) if len(warm_up) == len(done) else None,
        gain=score.estimate.mean - base.estimate.mean if score and base else None,
        sizes={name: _mean([fact.sizes[name] for _, fact in done]) for name in done[0][1].sizes},
        taken=sum((fact.all_taken for _, fact in done), Taken()) / len(done),
        dropped={reason: count / len(done) for reason, count in dropped.most_common()},
        overlap=sum(fact.overlap for _, fact in done),
    )


def _tested(comparison: Comparison, lines: Sequence[Line], facts: Mapping[str, Facts]) -> list[Line]:
    """The lines with their tests against the reference, and what is not equal to it."""
    reference = next(line for line in lines if line.is_reference)
    tests: dict[str, Test] = {}
    # a line with another line's runs is about its very models: nothing to test, and nothing for Holm to count
    for line in [line for line in lines if not line.is_reference and not line.same_as]:
        if (test := _test(comparison, line, reference, facts)) is not None:
            tests[line.variant] = test
    adjusted = dict(zip(tests, holm([test.difference.p or 0.0 for test in tests.values()]), strict=True))
    return [
        replace(
            line,
            test=replace(tests[line.variant], adjusted=adjusted[line.variant]) if line.variant in tests else None,
            differs=tuple(
                name for name in SIZES if reference.sizes and line.sizes and line.sizes[name] != reference.sizes[name]
            ),
        )
        for line in lines
    ]


def _test(comparison: Comparison, line: Line, reference: Line, facts: Mapping[str, Facts]) -> Test | None:
    seeds = [seed for seed in line.seeds if seed in reference.seeds]
    if not seeds:
        return None
    runs = {
        name: {cell.seed: facts[cell.run].models["tuned"] for cell in comparison.matrix.of(name) if cell.run in facts}
        for name in (line.variant, reference.variant)
    }
    ours, theirs = ([runs[name][seed] for seed in seeds] for name in (line.variant, reference.variant))
    rows = _common_rows([*ours, *theirs])
    if not rows:
        return None
    a, b = _table(ours, rows), _table(theirs, rows)
    return Test(
        difference=difference_over_seeds(a, b),
        rows_only=paired_bootstrap((a - b).mean(axis=0)),
        by_seed={
            seed: mcnemar_exact(int((of_a > of_b).sum()), int((of_a < of_b).sum()))
            for seed, of_a, of_b in zip(seeds, a, b, strict=True)
        },
    )


def _score(answers: Sequence[tuple[int, Answers]]) -> Score | None:
    """None where no row was judged with every seed."""
    rows = _common_rows([one for _, one in answers])
    if not rows:
        return None
    right = _table([one for _, one in answers], rows)
    lenient = [sum(one.lenient.values()) / len(one.lenient) for _, one in answers if one.lenient]
    return Score(
        estimate=accuracy_over_seeds(right),
        deviation=deviation_over_seeds(right),
        by_seed={seed: float(share) for (seed, _), share in zip(answers, right.mean(axis=1), strict=True)},
        lenient=statistics.fmean(lenient) if lenient else float("nan"),
        rows=len(rows),
        missing=sum(one.missing for _, one in answers),
    )


def _common_rows(answers: Sequence[Answers]) -> list[str]:
    """Rows judged in all of them, in the order of the first."""
    others = [set(one.strict) for one in answers[1:]]
    return [row for row in answers[0].strict if all(row in other for other in others)]


def _table(answers: Sequence[Answers], rows: Sequence[str]) -> Floats:
    """0 and 1, of shape (seeds, rows)."""
    return np.array([[one.strict[row] for row in rows] for one in answers], dtype=np.float64)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
