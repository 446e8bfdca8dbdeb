"""An analysis on the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from taskdef.analyze.dynamics import LOGGED, Dynamics, mean_of_last_tenth
from taskdef.analyze.records import Analysis
from taskdef.report.analysis import SET_NAMES
from taskdef.report.text import model_name, number, percent
from taskdef.show import print_table


def print_analysis(analysis: Analysis) -> None:
    """Print its tables on stdout, then what was not measured and why."""
    rates = {one.name: one for one in analysis.rates}
    alike = {one.name: one for one in analysis.similarity}
    headings = ("", "texts", "pass rate", "never", "always", "input tokens", "solution", "distinct-1", "-2", "-3")
    rows = []
    for one in analysis.texts:
        given = rates[one.name].rates if one.name in rates else ()
        cosine = alike.get(one.name)
        rows.append(
            (
                SET_NAMES[one.name],
                number(one.count),
                _mean(given),
                percent(given.count(0.0) / len(given) if given else None, 0),
                percent(given.count(1.0) / len(given) if given else None, 0),
                _median(one.input_tokens),
                _median(one.solution_tokens),
                *(number(one.distinct.get(n)) for n in (1, 2, 3)),
                number(one.self_bleu),
                number(cosine.mean if cosine else None),
                number(cosine.nearest if cosine else None),
                number(one.equal),
                number(one.near),
            )
        )
    print_table((*headings, "self-BLEU", "cosine", "nearest", "equal", "near"), rows)
    for shares in analysis.shares:
        known = sum(shares.counts.values())
        most, count = next(iter(shares.counts.items()), ("", 0))
        print(
            f"{SET_NAMES[shares.among]}, by {shares.by}: {len(shares.counts):,} of them"
            f"{f', {shares.unused:,} unused' if shares.unused else ''}, effective number {number(shares.effective)}, "
            f"the most frequent {most!r} with {percent(count / known if known else None)}"
            f"{f'; {shares.without:,} samples without one' if shares.without else ''}"
        )
    if analysis.votes is not None:
        votes = analysis.votes
        judged = votes.matched - votes.unjudged
        print(
            f"labels against people: {votes.correct} of {judged} right "
            f"({votes.matched} questions in both, {votes.unjudged} not judged)"
        )
        print_table(
            ("share of votes", "labels", "right", "95% interval"),
            [
                (
                    f"over {b.low:.0%} to {b.high:.0%}",
                    number(b.labels),
                    percent(b.share),
                    _interval(b.share_low, b.share_high),
                )
                for b in votes.bins
                if b.labels
            ],
        )
    for what, reason in analysis.not_measured.items():
        print(f"not measured: {what}: {reason}")


def print_dynamics(runs: Sequence[Dynamics]) -> None:
    """Print where each run's training ended (mean of its last tenth of steps), and its held-out accuracy."""
    keys = [key for key in LOGGED if any(key in run.curves for run in runs)]
    print_table(
        ("run", "method", "steps", *(LOGGED[key] for key in keys)),
        [
            (
                run.name,
                run.method,
                number(max(len(points) for points in run.curves.values()) if run.curves else 0),
                *(number(mean_of_last_tenth(run.curves[key]) if key in run.curves else None) for key in keys),
            )
            for run in runs
        ],
    )
    evaluated = [(run.name, model, accuracy) for run in runs for model, accuracy in run.accuracy.items()]
    if evaluated:
        print_table(
            ("run", "model", "accuracy, strict", "95% interval"),
            [
                (name, model_name(model), percent(accuracy.share), _interval(accuracy.low, accuracy.high))
                for name, model, accuracy in evaluated
            ],
        )


def _mean(values: Sequence[float]) -> str:
    return number(statistics.fmean(values) if values else None)


def _median(values: Sequence[int] | None) -> str:
    return number(statistics.median(values) if values else None)


def _interval(low: float | None, high: float | None) -> str:
    return f"{percent(low)} to {percent(high)}"
