"""The tables of a comparison's pages, as text: the same in HTML and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskdef.compare.comparison import Comparison
from taskdef.compare.facts import Taken
from taskdef.compare.results import Line, Results, Score
from taskdef.evaluate.seeds import Estimate
from taskdef.records import DropReason
from taskdef.report import text

DASH = text.percent(None)


@dataclass(frozen=True)
class Table:
    """One table with its caption."""

    name: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def all_tables(comparison: Comparison, results: Results) -> list[Table]:
    """Result, cost, seeds, drops, sharing: in the order of the pages."""
    return [
        result_table(comparison, results),
        cost_table(results),
        seed_table(comparison, results),
        dropped_table(results),
        shared_table(results),
    ]


def result_table(comparison: Comparison, results: Results) -> Table:
    """Accuracy, its interval, the test against the reference, and the sizes that should be equal."""
    reference = comparison.matrix.title(comparison.plan.reference)
    rows = [*_untrained(results), *(_result_row(line) for line in results.lines)]
    several = len(comparison.plan.seeds) > 1
    return Table(
        "Held-out accuracy",
        (
            "variant",
            "seeds",
            "accuracy %",
            "95% interval",
            f"difference from {reference}, points",
            "95% interval",
            "p",
            "p (Holm)",
            "samples trained on",
            "steps",
            "attempts a sample",
        ),
        tuple(rows),
        (
            "Accuracy: answers in the task's output format, mean ± standard deviation over the seeds. "
            + (
                "Intervals and p: two-way model of seeds and rows, so other seeds and other rows of the kind are both "
                "in them (Hillis 2007). "
                if several
                else "One seed: Wilson's interval, McNemar's exact test; other seeds are not in them. "
            )
            + f"p (Holm): adjusted for all {sum(line.test is not None for line in results.lines)} tests of the table. "
            + "* not the reference's.",
        ),
    )


def _untrained(results: Results) -> list[tuple[str, ...]]:
    """The base model and its warm-up, where all variants have the same."""
    rows: list[tuple[str, ...]] = []
    for name, scores in (
        ("base model", [line.base for line in results.lines]),
        ("after warm-up", [line.warm_up for line in results.lines]),
    ):
        known = [score for score in scores if score is not None]
        reference = next((s for line, s in zip(results.lines, scores, strict=True) if line.is_reference), None)
        if reference is not None and all(score.by_seed.items() <= reference.by_seed.items() for score in known):
            rows.append((name, str(len(reference.by_seed)), *_accuracy(reference), *[DASH] * 7))
    return rows


def _result_row(line: Line) -> tuple[str, ...]:
    name = line.title + (" (reference)" if line.is_reference else "")
    if line.same_as:
        name += f" (the same runs as {line.same_as})"
    if line.score is None:
        return (name, line.state, *[DASH] * 9)
    if line.test is None:
        tested = (DASH,) * 4
    else:
        difference = line.test.difference
        tested = (
            text.points(100 * difference.mean),
            f"{text.points(100 * difference.low)} to {text.points(100 * difference.high)}",
            p_text(difference.p),
            p_text(line.test.adjusted),
        )
    sizes = tuple(
        _count(line.sizes[name]) + ("*" if name in line.differs else "") for name in ("selected", "steps", "attempts")
    )
    return (name, line.state or str(len(line.seeds)), *_accuracy(line.score), *tested, *sizes)


def cost_table(results: Results) -> Table:
    """What each variant took for one seed, and all together."""
    rows = [_cost_row(line.title, line.taken) for line in results.lines if line.taken is not None and not line.same_as]
    rows.append(_cost_row("all runs, one by one", results.shared.alone))
    rows.append(_cost_row("all runs, as they were made here", results.shared.paid))
    return Table(
        "What it took",
        (
            "variant",
            "instructor answers",
            "from other runs",
            "tokens read",
            "tokens written",
            "usd",
            "completions of the model",
            "tokens sampled",
            "time",
        ),
        tuple(rows),
        (
            "A variant's line is the mean over its seeds, as if it had been run alone; instructor answers that another "
            "run had asked for already are counted apart and cost nothing. Time is the stages' wall time where they "
            "were computed.",
        ),
    )


def _cost_row(name: str, taken: Taken) -> tuple[str, ...]:
    cost = DASH if taken.unpriced else f"{taken.cost:.2f}"
    return (
        name,
        _count(taken.answers),
        _count(taken.from_cache),
        _count(taken.tokens_read),
        _count(taken.tokens_written),
        cost,
        _count(taken.completions),
        _count(taken.tokens_sampled),
        text.duration(taken.seconds),
    )


def seed_table(comparison: Comparison, results: Results) -> Table:
    """Each seed's accuracy, and the other readings of the same answers."""
    seeds = comparison.plan.seeds
    rows = []
    for line in results.lines:
        if line.score is None or line.same_as:
            continue
        by_seed = []
        for seed in seeds:
            share = line.score.by_seed.get(seed)
            p = line.test.by_seed.get(seed) if line.test is not None else None
            by_seed.append(text.percent(share) + (f" ({p_text(p)})" if p is not None else ""))
        only = line.test.rows_only if line.test is not None else None
        rows.append(
            (
                line.title,
                *by_seed,
                text.percent(line.score.lenient),
                text.points(None if line.gain is None else 100 * line.gain),
                DASH
                if only is None
                else f"{text.points(100 * only[0])} to {text.points(100 * only[1])}, {p_text(only[2])}",
                str(line.score.rows),
                str(line.score.missing),
                str(line.overlap),
            )
        )
    return Table(
        "Seed by seed",
        (
            "variant",
            *(f"seed {seed} (McNemar p)" for seed in seeds),
            "read leniently",
            "over base model, points",
            "other rows, these models",
            "rows",
            "unjudged",
            "test rows seen",
        ),
        tuple(rows),
        (
            "Other rows, these models: paired bootstrap over the rows of the mean difference from the reference; it "
            "says nothing about other seeds. Test rows seen: held-out inputs found among those scored or trained on; "
            "must be 0.",
        ),
    )


def dropped_table(results: Results) -> Table:
    """What was lost on the way, by reason."""
    lines = [line for line in results.lines if line.score is not None and not line.same_as]
    reasons = [reason.value for reason in DropReason if any(reason.value in line.dropped for line in lines)]
    return Table(
        "What was left out",
        ("variant", *(text.words(reason) for reason in reasons)),
        tuple((line.title, *(_count(line.dropped.get(reason, 0)) for reason in reasons)) for line in lines),
        ("Drafts, rewrites and human rows that became no sample, by reason: means over the seeds.",),
    )


def shared_table(results: Results) -> Table:
    """What was done once for several runs."""
    shared = results.shared
    rows = [(stage.value, str(made), str(taken)) for stage, (made, taken) in shared.stages.items()]
    rows.append(("completions of the model", _count(shared.attempts[0]), _count(shared.attempts[1])))
    rows.append(("instructor answers", _count(shared.answers[0]), _count(shared.answers[1])))
    return Table(
        "What the runs share",
        ("", "made", "taken over from another run"),
        tuple(rows),
        (f"Stages with equal settings and inputs that were computed twice: {shared.twice}.",),
    )


def _accuracy(score: Score) -> tuple[str, str]:
    spread = f" ± {100 * score.deviation:.1f}" if score.deviation is not None else ""
    return f"{100 * score.estimate.mean:.1f}{spread}", interval(score.estimate)


def interval(estimate: Estimate) -> str:
    """``41.2 to 48.9``, in percent."""
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def p_text(p: float | None) -> str:
    """A p value, as short as it may be."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _count(value: float | None) -> str:
    return text.number(None if value is None else round(value, 1))


def markdown(comparison: Comparison, results: Results, rows: Sequence[Table]) -> str:
    """The page in Markdown."""
    lines = [f"# {comparison.plan.name}: {comparison.matrix.definition.name}", ""]
    if comparison.plan.about:
        lines += [comparison.plan.about.strip(), ""]
    if not results.is_complete:
        lines += ["**Not finished:** what is missing stands under `seeds`.", ""]
    for table in rows:
        lines += [f"## {table.name}", "", _markdown_row(table.headings), _markdown_row(["---"] * len(table.headings))]
        lines += [_markdown_row(row) for row in table.rows]
        lines += ["", *table.notes, ""]
    if results.failures:
        lines += ["## Failed", "", *(f"- {cell}: {reason}" for cell, reason in results.failures), ""]
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(text.clean(cell).replace("|", "\\|").split()) for cell in cells) + " |"
