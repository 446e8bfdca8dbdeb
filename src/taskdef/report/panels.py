"""The report's charts: which figures go into which panel, under which heading."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from taskdef.records import Origin, Sample
from taskdef.report.charts import Stack, bars, binned, curve, nice_ticks
from taskdef.report.gather import Artifacts, figures
from taskdef.report.text import model_name, number, percent


@dataclass(frozen=True)
class Panel:
    """One chart with its heading and a line of explanation."""

    title: str
    note: str
    chart: Markup


RATE_LABELS = ("never solved", *(f"{low}% to {low + 10}%" for low in range(0, 100, 10)), "always solved")
RATE_TICKS = ((0, "0"), (3, ".25"), (5.5, ".5"), (8, ".75"), (11, "1"))

_CURVES: tuple[tuple[str, str, str, bool], ...] = (
    ("reward", "Reward", "mean over the step's completions", False),
    ("zero_signal_share", "Groups without signal", "the same reward for a whole group", True),
    ("completion_length", "Completion length", "tokens, mean", False),
    ("truncated_share", "Truncated", "completions cut at the token limit", True),
    ("entropy", "Entropy", "nats a token; falls as the model grows sure", False),
    ("kl", "Distance from the start (KL)", "nats a token", False),
    ("explained_variance", "Explained variance", "of the returns by the values; 1 is perfect, below 0 misleads", False),
    ("clipped_share", "Clipped tokens", "share of the tokens whose loss was clipped", True),
    ("chosen_log_probability", "Chosen side", "log-probability in nats, mean; should not fall", False),
    ("rejected_log_probability", "Rejected side", "log-probability in nats, mean", False),
    ("margin", "Margin", "how much better the chosen side is rated than at the start", False),
    ("loss", "Loss", "", False),
    ("gradient_norm", "Gradient norm", "before clipping", False),
    ("learning_rate", "Learning rate", "", False),
    ("seconds", "Seconds a step", "wall time", False),
)
"""(logged key, title, note, whether it is a share)."""


def pass_rate_panels(artifacts: Artifacts) -> list[Panel]:
    """How often the samples were solved in scoring: before adaptation, after it, and of those selected."""
    if not artifacts.pass_rates:
        return []
    initial = [sample for sample in artifacts.adapted if sample.origin is Origin.INITIAL]
    groups = [
        ("Before adaptation", "initial samples", initial),
        ("After adaptation", "initial, harder and easier", artifacts.adapted),
        ("Training set", f"selected by {artifacts.run.config.select.strategy}", artifacts.selected),
    ]
    stacks = [_rate_stacks(artifacts, samples) for _, _, samples in groups]
    highest = max(sum(stack.counts[bar] for stack in group) for group in stacks for bar in range(len(RATE_LABELS)))
    return [
        Panel(
            title,
            f"{number(len(samples))} samples: {what}",
            bars(RATE_LABELS, group, what=f"Pass rates, {title}", ticks=RATE_TICKS, highest=highest, apart=(0, 11)),
        )
        for (title, what, samples), group in zip(groups, stacks, strict=True)
    ]


def held_out_length_panels(artifacts: Artifacts) -> list[Panel]:
    """How long each model's held-out completions are, on one scale."""
    if not artifacts.held_out:
        return []
    lengths = {name: [attempt.token_count for attempt in given] for name, given in artifacts.held_out.items()}
    longest = max((max(values, default=0) for values in lengths.values()), default=0)
    edges = _length_edges(longest)
    labels = [f"{low} to {high - 1} tokens" for low, high in itertools.pairwise(edges)]
    middle = len(labels) // 2
    ticks = ((0, str(edges[0])), (middle, str(edges[middle])), (len(labels) - 1, str(edges[-2])))
    counts = {name: binned(values, edges) for name, values in lengths.items()}
    highest = max((max(given) for given in counts.values()), default=1)
    return [
        Panel(
            model_name(name),
            f"{number(sum(values) / len(values) if values else None)} tokens on average",
            bars(
                labels,
                [Stack("completions", f"fill-{name}", counts[name])],
                what=f"Completion lengths, {model_name(name)}",
                ticks=ticks,
                highest=highest,
            ),
        )
        for name, values in lengths.items()
    ]


def training_panels(artifacts: Artifacts) -> list[Panel]:
    """One curve a logged figure; figures that were not logged have no panel."""
    panels = []
    for key, title, note, is_share in _CURVES:
        points = figures(artifacts.log, key)
        if points:
            show: Callable[[float], str] = _percent if is_share else number
            bounds = (0.0, 1.0) if is_share else None
            panels.append(Panel(title, note, curve(points, what=title, show=show, bounds=bounds)))
    return panels


def rate_bins(rates: Sequence[float]) -> list[int]:
    """Twelve bins: exactly 0, ten tenths of what lies strictly between, exactly 1."""
    between = [rate for rate in rates if 0 < rate < 1]
    edges = [tenth / 10 for tenth in range(11)]
    return [sum(rate == 0 for rate in rates), *binned(between, edges), sum(rate == 1 for rate in rates)]


def _rate_stacks(artifacts: Artifacts, samples: Sequence[Sample]) -> list[Stack]:
    stacks = []
    for origin in Origin:
        scored = [
            artifacts.pass_rates[one.id] for one in samples if one.origin is origin and one.id in artifacts.pass_rates
        ]
        rates = [rate.rate for rate in scored if rate.rate is not None]
        if rates:
            stacks.append(Stack(origin.value, origin.value, rate_bins(rates)))
    return stacks or [Stack("samples", Origin.INITIAL.value, [0] * len(RATE_LABELS))]


def _length_edges(longest: int) -> list[int]:
    """Whole-number bin edges from 0 to beyond the longest completion, about twenty bins."""
    width = max(int(nice_ticks(0, max(longest, 1), 20)[1]), 1)
    return list(range(0, longest + 2 * width, width))


def _percent(share: float) -> str:
    return percent(share, 0)
