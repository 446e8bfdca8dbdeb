"""What a comparison will take, before anything is spent: the matrix, calls, tokens, and hours on a GPU.

Counts follow from the settings and are upper bounds where chance decides, but for those named expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from taskdef.compare.comparison import Comparison
from taskdef.compare.matrix import Cell
from taskdef.compare.reckoning import Assumptions, Work, cost_of, stage_work, with_hours
from taskdef.plan import estimate
from taskdef.records import Stage
from taskdef.sharing import PARTS
from taskdef.store import STAGES


@dataclass(frozen=True)
class RunOutlook:
    """One run of the matrix: where each stage comes from, and what is left to do."""

    cell: Cell
    sources: Mapping[Stage, str]
    """Empty where the stage is computed; else the run that will have it by then, or ``done``."""
    work: Work
    cost: float | None
    """US dollars; None where the price is not known."""


def foresee(comparison: Comparison, assumed: Assumptions) -> list[RunOutlook]:
    """Every run in working order. Sharing is foreseen by settings alone; equal inputs may make it larger."""
    first: dict[tuple[Stage, str], str] = {}
    parts: set[str] = set()
    outlooks = []
    for cell in comparison.matrix.runs():
        run = comparison.run(cell)
        sizes = estimate(cell.definition, cell.config)
        sources: dict[Stage, str] = {}
        work = Work()
        for stage in STAGES:
            owner = first.setdefault((stage, run.settings_digest(stage)), cell.run)
            known = {name for part in PARTS.get(stage, ()) if part.expected_key(run) in parts for name in part.files}
            parts |= {part.expected_key(run) for part in PARTS.get(stage, ())}
            done = run.stage(stage).is_done()
            sources[stage] = "done" if done else owner if owner != cell.run else ""
            if not sources[stage]:
                work += with_hours(stage_work(stage, cell.config, sizes, known, assumed), cell.config, assumed)
        outlooks.append(RunOutlook(cell, sources, work, cost_of(cell.config, work)))
    return outlooks


def print_outlook(comparison: Comparison, assumed: Assumptions) -> None:
    """The matrix, the totals, and what they were reckoned from, on stdout."""
    from taskdef.show import print_table

    outlooks = foresee(comparison, assumed)
    plan, matrix = comparison.plan, comparison.matrix
    state = "new" if comparison.is_new else "begun; what is finished is kept"
    print(f"{comparison.path} ({state}): {len(plan.variants)} variants x {len(plan.seeds)} seeds, {len(outlooks)} runs")
    _print_variants(comparison)
    print_table(
        ("run", *(stage.value for stage in STAGES), "calls", "completions"),
        [
            (
                one.cell.run,
                *(_source_text(one.sources[stage]) for stage in STAGES),
                f"{one.work.calls:,.0f}",
                f"{one.work.completions:,.0f}",
            )
            for one in outlooks
        ],
    )
    same = [cell for cell in matrix.cells if cell.run != f"{cell.variant}-seed{cell.seed}"]
    for cell in same:
        print(f"{cell.name}: comes to the same as {cell.run}, and is that run")
    total = sum((one.work for one in outlooks), Work())
    stages = [source for one in outlooks for source in one.sources.values()]
    shared = sum(source not in ("", "done") for source in stages)
    print(
        f"stages: {len(stages)}, of which {stages.count('')} to compute, {shared} shared, {stages.count('done')} done"
    )
    print(
        f"instructor: {total.calls:,.0f} calls expected, at most {total.most_calls:,.0f}; about "
        f"{total.tokens_read:,.0f} tokens read, {total.tokens_written:,.0f} written{_cost_text(outlooks)}"
    )
    print(
        f"base model: at most {total.completions:,.0f} completions, about {total.sampled:,.0f} tokens sampled, "
        f"{total.trained:,.0f} trained on"
    )
    print(_hours_text(total, outlooks))
    print("reckoned with (none of it measured; --assume KEY=VALUE gives another):")
    for one in fields(assumed):
        print(f"  {one.name} = {getattr(assumed, one.name):g}")


def _print_variants(comparison: Comparison) -> None:
    from taskdef.show import print_table

    rows = []
    for name, variant in comparison.plan.variants.items():
        cell = comparison.matrix.of(name)[0]
        sizes = estimate(cell.definition, cell.config)
        differs = [f"{key}={value}" for key, value in variant.settings.items()]
        differs += [f"demos={variant.demos}"] if variant.demos is not None else []
        differs += [f"human={variant.human}"] if variant.human is not None else []
        mark = " (reference)" if name == comparison.plan.reference else ""
        budget = (f"{sizes.selected:,}", f"{sizes.steps:,}", f"{cell.config.select.most_attempts}")
        rows.append((name + mark, *budget, ", ".join(differs) or "the plan's settings"))
    print_table(("variant", "samples trained on", "steps", "attempts a sample", "differs in"), rows)


def _source_text(source: str) -> str:
    return source if source == "done" else f"= {source}" if source else "compute"


def _cost_text(outlooks: Sequence[RunOutlook]) -> str:
    costs = [one.cost for one in outlooks]
    if all(cost is None for cost in costs):
        return "; cost unknown: no price for this instructor"
    known = sum(cost for cost in costs if cost is not None)
    return f"; about {known:,.2f} usd" + (" and what has no known price" if None in costs else "")


def _hours_text(total: Work, outlooks: Sequence[RunOutlook]) -> str:
    if total.hours is None:
        return "hours unknown: a base model's name does not say its size; --assume billion_parameters=7.6"
    trained = sum(not one.sources[Stage.TRAIN] for one in outlooks)
    each = f", about {total.hours / trained:.1f} a training" if trained else ""
    return f"one GPU: about {total.hours:,.1f} hours{each}; {trained} tuned models"
