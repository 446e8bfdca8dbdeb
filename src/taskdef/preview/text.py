"""A preview, readable: every sample on its way, what is kept at each stage, what the full run will take.

It goes to stdout; in a pipe nothing is coloured or wrapped.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from taskdef.instruct.draft_form import ParseFailure
from taskdef.instruct.meter import Meter, Work
from taskdef.preview.projection import Projection, Range
from taskdef.preview.samples import clean, print_draft
from taskdef.preview.take import Preview
from taskdef.readable import duration
from taskdef.records import Attempt, Drop, DropReason, Sample, Verdict
from taskdef.show import print_table

_PIPED_WIDTH = 1000
_PATTERN = 400
_NOT_WRITTEN = (DropReason.INSTRUCTOR_FAILED, DropReason.UNPARSEABLE, DropReason.NO_REWRITE)
_SCREENED = (DropReason.DUPLICATE, DropReason.TOO_SIMILAR, DropReason.OVERLAPS_TEST, DropReason.OVERLAPS_DEMO)


def print_preview(preview: Preview) -> None:
    """Print everything that was found on stdout."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    if preview.keywords:
        console.print(Text(f"keywords  {', '.join(map(clean, preview.keywords))}"))
        console.print(Text(f"passages  {preview.passages:,}"))
    if preview.pattern:
        console.print(Text(f"pattern   {clean(preview.pattern, _PATTERN)}"))
    for outcome in preview.outcomes:
        print_draft(console, preview, outcome)
    for heading, lines in _sections(preview):
        console.print()
        console.print(Text(heading, style="bold"))
        if preview.meter is not None and heading.startswith("instructor ") and preview.meter.total().done:
            print_table(
                ("purpose", "answers", "calls", "read", "written", "cost (usd)", "a call"), _purposes(preview.meter)
            )
        for line in lines:
            console.print(Text(f"  {line}"), soft_wrap=True)
    if preview.projection is not None:
        console.print()
        console.print(Text("the full run, if later drafts are like these (95% ranges)", style="bold"))
        print_table(("", "about", "range", "previewed", "left to ask"), _projection_rows(preview))
        for line in _time_lines(preview):
            console.print(Text(line), soft_wrap=True)
    if preview.lengths is not None and (warning := preview.lengths.warning(preview.context)):
        first, _, rest = warning.partition("\n")
        console.print()
        console.print(Text("warning: ", style="bold yellow").append(first, style="default"), soft_wrap=True)
        console.print(Text(rest), soft_wrap=True)


def shares(preview: Preview) -> list[tuple[str, int, int]]:
    """(what, how many of it, out of how many) for each step that can lose a draft, a sample or a rewrite."""
    rewrites = list(preview.rewrites.values())
    rows = _kept_shares("drafts", preview.outcomes)
    if preview.attempts:
        verdicts = Counter(attempt.verdict for attempt in preview.attempts.values())
        rows.append(("samples the base model solved", verdicts[Verdict.CORRECT], len(preview.attempts)))
    if rewrites:
        rows += _kept_shares("rewrites", rewrites)
    return rows


def _kept_shares(name: str, outcomes: Sequence[Sample | Drop]) -> list[tuple[str, int, int]]:
    reasons = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Drop))
    left, rows = len(outcomes), []
    for what, lost in (
        ("that hold a sample", _NOT_WRITTEN),
        ("that pass the screen", _SCREENED),
        ("with a readable answer", (DropReason.GOLD_FAILS,)),
        ("labelled by the vote", (DropReason.NO_MAJORITY,)),
        ("in all", ()),
    ):
        kept = left - sum(reasons[reason] for reason in lost)
        rows.append((f"{name} {what}", kept, left if lost else len(outcomes)))
        left = kept
    return rows


def _sections(preview: Preview) -> Iterator[tuple[str, list[str]]]:
    if preview.outcomes:
        lines = [f"{what:<34} {kept:>4} of {of:<4} {kept / of:>5.0%}" for what, kept, of in shares(preview) if of]
        drops = [*preview.drops, *_dropped(preview), *preview.too_long]
        reasons = Counter(drop.reason.value for drop in drops)
        lines += [f"dropped: {', '.join(f'{count} {reason}' for reason, count in reasons.items()) or 'none'}"]
        if cut := sum(drop.detail.startswith(ParseFailure.CUT.value) for drop in drops):
            limit = preview.config.instruct.max_tokens
            lines.append(
                f"{cut} cut off at the instructor's limit of {limit} tokens: --set instruct.max_tokens={2 * limit}"
            )
        yield "kept at each stage", lines
    if preview.meter is not None:
        yield f"instructor {preview.config.instructor}", _spending_lines(preview)
    if preview.lengths is not None:
        lines = [preview.lengths.text()]
        truncated = [attempt for attempt in _all_attempts(preview) if attempt.verdict is Verdict.TRUNCATED]
        if truncated:
            lines.append(f"{len(truncated)} of {len(_all_attempts(preview))} were cut before their answer was complete")
        if preview.lengths.tokens_a_second is not None:
            lines.append(f"{preview.lengths.tokens_a_second:,.0f} tokens a second, decoded in the largest batch here")
        if preview.warm_up:
            lines.append(
                f"the full run would warm it up first: {preview.warm_up}; verdicts and lengths change by that, and so "
                "may which samples get harder and which easier"
            )
        yield f"base model {preview.config.base_model}", lines


def _spending_lines(preview: Preview) -> list[str]:
    meter = preview.meter
    assert meter is not None
    lines = []
    initial = len(preview.samples)
    pool = initial + sum(isinstance(rewrite, Sample) for rewrite in preview.rewrites.values())
    if preview.synthesis is not None and initial:
        lines.append(f"a sample kept by synthesize takes {_each_text(preview.synthesis, initial)}")
    if preview.rewrites and pool:
        lines.append(f"one of the {pool} kept in all, rewrites among them, takes {_each_text(meter.total(), pool)}")
    paid, before = preview.paid, preview.paid_before
    if paid is not None and before is not None:
        new = paid.calls - before.calls
        lines.append(
            f"asked now: {new:,} calls; {'the previews in all' if before.calls else 'in all'}: {paid}"
            if new
            else f"asked now: nothing{'' if preview.stopped else '; every answer was known'}"
        )
    return lines


def _purposes(meter: Meter) -> Iterator[tuple[str, ...]]:
    for purpose, work in meter.work.items():
        if work.done:
            seconds = f"{work.seconds / work.calls:.1f} s" if work.calls else ""
            tokens = (f"{work.read:,}", f"{work.written:,}") if work.read else ("unknown", "unknown")
            yield purpose, f"{work.responses:,}", f"{work.calls:,}", *tokens, _cost_text(work), seconds


def _projection_rows(preview: Preview) -> list[tuple[str, ...]]:
    projection, meter = preview.projection, preview.meter
    assert projection is not None
    rows: list[tuple[str, ...]] = [
        _row("drafts", projection.drafts, str(len(preview.outcomes))),
        _row("samples kept", projection.samples, str(len(preview.samples))),
        _row("with rewrites", projection.pool, str(preview.seen().kept + preview.seen().rewrites_kept)),
    ]
    if meter is None:
        return rows
    so_far, rest = meter.total(), projection.rest
    rows += [
        (*_row("instructor calls", projection.calls, f"{so_far.calls:,}"), _range(rest["calls"])),
        (*_row("answers", projection.responses, f"{so_far.responses:,}"), _range(rest["responses"])),
    ]
    for name, found, known in (
        ("tokens read", projection.read, so_far.read),
        ("tokens written", projection.written, so_far.written),
    ):
        if found is None:
            rows.append((name, "unknown", "the endpoint does not count tokens", "", ""))
        else:
            rows.append((*_row(name, found, f"{known:,}"), _range(rest[name.split()[1]])))
    if projection.cost is None:
        rows.append(("cost (usd)", "unknown", "no price for this model", "unknown", "unknown"))
    else:
        cost = projection.cost
        rows.append(
            ("cost (usd)", f"{cost.middle:.4f}", _range(cost, 4), f"{so_far.cost:.4f}", _range(rest["cost"], 4))
        )
    return [(*row, "", "", "")[:5] for row in rows]


def _time_lines(preview: Preview) -> Iterator[str]:
    projection: Projection | None = preview.projection
    if preview.in_batches:
        yield "the run asks in batches (instruct.batch): answers within a day, at a lower price than these"
    elif projection is not None and projection.seconds is not None:
        seconds = projection.seconds
        yield (
            f"instructor time  {duration(seconds.low)} to {duration(seconds.high)}: with "
            f"{preview.config.instruct.concurrency} calls in flight at the latency of now, or as few as here"
        )
    if (sampling := preview.sampling) is not None:
        yield (
            f"base model time  {duration(sampling.least_seconds)} to {duration(sampling.most_seconds)} of decoding "
            f"({sampling.fewest:,.0f} to {sampling.most:,.0f} completions: greedy, scoring, rollouts"
            f"{', held-out rows' if preview.test_rows else ''}), if lengths stay as here; "
            "the passes of training over its rollouts are not measured"
        )


def _row(name: str, found: Range, known: str) -> tuple[str, str, str, str]:
    return name, f"{found.middle:,.0f}", _range(found), known


def _range(found: Range, digits: int = 0) -> str:
    return f"{found.low:,.{digits}f} to {found.high:,.{digits}f}"


def _cost_text(work: Work) -> str:
    if work.unpriced == work.responses:
        return "unknown"
    return f"{work.cost:.4f}" + (f" and {work.unpriced} answers of unknown cost" if work.unpriced else "")


def _each_text(work: Work, kept: int) -> str:
    tokens = (
        f"{work.read / kept:,.0f} tokens read, {work.written / kept:,.0f} written" if work.read else "tokens unknown"
    )
    cost = "cost unknown: no price for this model" if work.unpriced else f"{work.cost / kept:.4f} usd"
    return f"{work.calls / kept:.1f} calls, {tokens}, {cost}"


def _all_attempts(preview: Preview) -> list[Attempt]:
    return [*preview.attempts.values(), *(each for attempts in preview.scored.values() for each in attempts)]


def _dropped(preview: Preview) -> list[Drop]:
    return [rewrite for rewrite in preview.rewrites.values() if isinstance(rewrite, Drop)]
