"""The figures of one run's data, each from what ``analysis.json`` holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskdef.analyze.drawing import COLOURS, COLUMN, DASHES, PAGE, new_figure, save_figure, style
from taskdef.analyze.records import Analysis, Rates, Shares
from taskdef.report.analysis import SET_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_DOMAINS = 12


def draw_analysis(analysis: Analysis, folder: Path) -> list[Path]:
    """Write every figure that there is data for, as SVG and PDF; gives the files. Raises RunError."""
    drawn: list[Path] = []
    with style():
        for name, draw in (
            ("pass-rates", draw_pass_rates),
            ("token-lengths", draw_token_lengths),
            ("similarity", draw_similarity),
            ("shares", draw_shares),
            ("votes", draw_votes),
        ):
            figure = draw(analysis)
            if figure is not None:
                drawn += save_figure(figure, folder, name)
    return drawn


def draw_pass_rates(analysis: Analysis) -> Figure | None:
    """A histogram a set, side by side: exactly 0 and exactly 1 stand apart from the tenths between."""
    found = [one for one in analysis.rates if one.rates]
    if not found:
        return None
    figure, axes = new_figure(min(PAGE, 1.75 * len(found) + 0.4), 1.9, columns=len(found), sharey=True)
    places = [0.0, *(1.4 + tenth for tenth in range(10)), 11.8]
    for one, ax in zip(found, axes, strict=True):
        ax.bar(places, _rate_shares(one), width=0.86, color=COLOURS[one.name], linewidth=0)
        ax.set_title(SET_NAMES[one.name])
        ax.text(0.98, 0.97, f"n = {len(one.rates):,}\nmean {np.mean(one.rates):.2f}", transform=ax.transAxes,
                ha="right", va="top", fontsize=7, color="#444444", linespacing=1.3)  # fmt: skip
        ax.set_xticks([0, 0.9, 5.9, 10.9, 11.8], ["0", "", ".5", "", "1"])
        ax.tick_params(axis="x", length=0)
        ax.set_xlabel("Pass rate")
        ax.margins(y=0.12)
    axes[0].set_ylabel("Share of the set (%)")
    return figure


def draw_token_lengths(analysis: Analysis) -> Figure | None:
    """Lengths of inputs and of solutions, one line a set."""
    found = [one for one in analysis.texts if one.input_tokens and one.solution_tokens]
    if not found:
        return None
    figure, axes = new_figure(PAGE, 2.3, columns=2)
    for ax, what in zip(axes, ("input_tokens", "solution_tokens"), strict=True):
        series = [(one.name, np.asarray(getattr(one, what))) for one in found]
        edges = length_edges([values for _, values in series])
        for name, values in series:
            shares = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)[0] / len(values) * 100
            _outline(ax, edges, shares, name)
            ax.axvline(float(np.median(values)), color=COLOURS[name], linestyle=DASHES[name], linewidth=0.7, alpha=0.7)
        ax.set_title("Inputs" if what == "input_tokens" else "Solutions")
        ax.set_xlabel("Tokens")
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylim(bottom=0)
        ax.locator_params(axis="x", integer=True)
    axes[0].set_ylabel("Share of the set (%)")
    _legend_below(figure, axes[0])
    return figure


def length_edges(series: Sequence[Any], bins: int = 30) -> Any:
    """Edges between whole numbers, every bin as many of them wide, from the shortest to the 99.5th percentile: one
    text of a thousand tokens must not press all others into a corner. Longer ones count in the last bin."""
    shortest = min(int(values.min()) for values in series)
    longest = max(int(np.ceil(np.quantile(values, 0.995))) for values in series)
    width = max(1, -(-(longest - shortest + 1) // bins))
    return np.arange(shortest, longest + width + 1, width) - 0.5


def draw_similarity(analysis: Analysis) -> Figure | None:
    """Pairwise cosine similarity of the inputs, one line a set, with its mean."""
    if not analysis.similarity:
        return None
    figure, (ax,) = new_figure(COLUMN, 2.3)
    shown = [np.asarray(one.counts) / one.pairs * 100 for one in analysis.similarity]
    filled = [np.flatnonzero(shares > 0.05) for shares in shown]
    for one, shares in zip(analysis.similarity, shown, strict=True):
        edges = np.linspace(one.low, one.high, len(shares) + 1)
        _outline(ax, edges, shares, one.name, f"{SET_NAMES[one.name]}: mean {one.mean:.2f}")
        ax.axvline(one.mean, 0, 0.69, color=COLOURS[one.name], linestyle=DASHES[one.name], linewidth=0.7, alpha=0.7)
    first = min((places[0] for places in filled if len(places)), default=0)
    edges = np.linspace(analysis.similarity[0].low, analysis.similarity[0].high, len(shown[0]) + 1)
    ax.set_xlim(edges[max(first - 1, 0)], edges[-1])
    ax.set_ylim(0, max(float(shares.max()) for shares in shown) * 1.45)  # room for the legend above the curves
    ax.set_xlabel("Cosine similarity of two inputs")
    ax.set_ylabel("Share of pairs (%)")
    ax.legend(loc="upper left", borderaxespad=0.2)
    return figure


def draw_shares(analysis: Analysis) -> Figure | None:
    """How many passages give which share of the samples; and the domains' shares."""
    passages = [one for one in analysis.shares if one.by == "passage" and one.counts]
    domains = [one for one in analysis.shares if one.by == "domain" and one.counts]
    columns = bool(passages) + bool(domains)
    if not columns:
        return None
    figure, axes = new_figure(PAGE if columns == 2 else COLUMN, 2.4, columns=columns)
    if passages:
        _draw_passages(axes[0], passages)
    if domains:
        _draw_domains(axes[-1], domains)
    _legend_below(figure, axes[0])
    return figure


def draw_votes(analysis: Analysis) -> Figure | None:
    """How often labels are right, by the share of the votes that they won."""
    votes = analysis.votes
    if votes is None or not any(one.labels for one in votes.bins):
        return None
    figure, (ax,) = new_figure(COLUMN, 2.3)
    ax.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for one in votes.bins:
        if one.share is None or one.share_low is None or one.share_high is None:
            continue
        place = (one.low + one.high) / 2
        ax.errorbar(
            place,
            one.share,
            yerr=[[one.share - one.share_low], [one.share_high - one.share]],
            color=COLOURS["initial"],
            marker="o",
            markersize=4,
            capsize=2,
            linewidth=1,
        )
        ax.annotate(f"{one.labels:,}", (place, one.share_high), xytext=(0, 3), textcoords="offset points",
                    ha="center", fontsize=6.5, color="#444444")  # fmt: skip
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.12)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    ax.set_xlabel("Share of the votes for the label (above: labels)")
    ax.set_ylabel("Equal to the human answer (%)")
    return figure


def _rate_shares(rates: Rates) -> list[float]:
    """In percent: exactly 0, ten tenths of what lies between, exactly 1."""
    values = np.asarray(rates.rates)
    between = values[(values > 0) & (values < 1)]
    tenths = np.histogram(between, bins=np.linspace(0, 1, 11))[0]
    return [100 * float(count) / len(values) for count in (np.sum(values == 0), *tenths, np.sum(values == 1))]


def _outline(ax: Axes, edges: Any, shares: Any, name: str, label: str | None = None) -> None:
    ax.stairs(shares, edges, color=COLOURS[name], alpha=0.07, fill=True)
    ax.stairs(shares, edges, color=COLOURS[name], linestyle=DASHES[name], linewidth=1.3, label=label or SET_NAMES[name])


def _draw_passages(ax: Axes, found: Sequence[Shares]) -> None:
    for one in found:
        counts = np.asarray(list(one.counts.values()), dtype=float)
        cumulated = np.concatenate([[0], np.cumsum(counts) / counts.sum() * 100])
        used = np.arange(len(cumulated))
        ax.plot(used, cumulated, color=COLOURS[one.among], linestyle=DASHES[one.among], label=SET_NAMES[one.among])
    told = "\n".join(
        f"{SET_NAMES[one.among]}: {len(one.counts):,} used, effective {one.effective or 0:,.0f}" for one in found
    )
    ax.text(0.98, 0.04, told, transform=ax.transAxes, ha="right", va="bottom", fontsize=6.5, color="#444444")
    ax.set_title("Passages")
    ax.set_xlabel("Passages, the most used first")
    ax.set_ylabel("Share of the samples (%)")
    ax.set_xlim(left=0)
    ax.set_ylim(0, 101)


def _draw_domains(ax: Axes, found: Sequence[Shares]) -> None:
    names = list(dict.fromkeys(name for one in found for name in one.counts))[:_MOST_DOMAINS]
    height = 0.8 / len(found)
    for place, one in enumerate(found):
        total = sum(one.counts.values()) + one.without
        widths = [100 * one.counts.get(name, 0) / total for name in names]
        bottom = np.arange(len(names)) + (place - (len(found) - 1) / 2) * height
        ax.barh(bottom, widths, height * 0.9, color=COLOURS[one.among], label=SET_NAMES[one.among], linewidth=0)
    ax.set_yticks(range(len(names)), [name if len(name) <= 28 else f"{name[:27]}…" for name in names])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)
    ax.tick_params(axis="y", length=0)
    ax.set_title("Domains")
    ax.set_xlabel("Share of the samples (%)")


def _legend_below(figure: Figure, ax: Axes) -> None:
    """One legend for all panels, which show the same sets."""
    lines, labels = ax.get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=4)
