"""The figures that compare runs: what they logged in training, and what they came to on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taskdef.analyze.drawing import COLUMN, PAGE, SERIES, new_figure, save_figure, smoothed, style
from taskdef.analyze.dynamics import LOGGED, Dynamics
from taskdef.report.text import model_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_runs(runs: Sequence[Dynamics], folder: Path) -> list[Path]:
    """Write ``training-dynamics`` and, where runs were evaluated, ``accuracy``; gives the files. Raises RunError."""
    with style():
        drawn = save_figure(draw_dynamics(runs), folder, "training-dynamics")
        accuracy = draw_accuracy(runs)
        if accuracy is not None:
            drawn += save_figure(accuracy, folder, "accuracy")
    return drawn


def draw_dynamics(runs: Sequence[Dynamics]) -> Figure:
    """A panel for each figure that any run logged; values thin, their moving average bold."""
    keys = [key for key in LOGGED if any(key in run.curves for run in runs)]
    columns = min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    figure, axes = new_figure(PAGE if columns > 1 else COLUMN, 1.75 * rows + 0.3, columns=columns, rows=rows)
    for key, ax in zip(keys, axes, strict=False):
        for place, run in enumerate(runs):
            points = run.curves.get(key, [])
            if not points:
                continue
            steps, values = [step for step, _ in points], [value for _, value in points]
            colour = SERIES[place % len(SERIES)]
            ax.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
            ax.plot(steps, smoothed(values), color=colour, label=run.name)
        ax.set_title(LOGGED[key])
        ax.set_xlabel("Step")
        ax.margins(x=0.02)
        if key in ("zero_signal_share", "reward"):
            ax.set_ylim(0, None)
    for ax in axes[len(keys) :]:
        ax.set_visible(False)
    named = {
        label: line for ax in axes[: len(keys)] for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=min(4, len(named)))
    return figure


def draw_accuracy(runs: Sequence[Dynamics]) -> Figure | None:
    """Held-out accuracy with 95% intervals, strict reading: a row a run and model."""
    rows = [
        (place, run.name, model, accuracy)
        for place, run in enumerate(runs)
        for model, accuracy in run.accuracy.items()
        if accuracy.share is not None
    ]
    if not rows:
        return None
    figure, (ax,) = new_figure(PAGE * 0.75, 0.24 * len(rows) + 0.6)
    for y, (place, _, model, accuracy) in enumerate(rows):
        assert accuracy.share is not None
        assert accuracy.low is not None
        assert accuracy.high is not None
        colour = SERIES[place % len(SERIES)]
        ax.plot([100 * accuracy.low, 100 * accuracy.high], [y, y], color=colour, linewidth=1.6, alpha=0.55)
        ax.plot(100 * accuracy.share, y, "o", color=colour, markersize=4.5,
                markerfacecolor=colour if model == "tuned" else "white")  # fmt: skip
        ax.annotate(f"{100 * accuracy.share:.1f}", (100 * accuracy.high, y), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=7, color="#444444")  # fmt: skip
    ax.set_yticks(range(len(rows)), [f"{name}, {model_name(model).lower()}" for _, name, model, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, min(104, max(100 * (a.high or 0) for _, _, _, a in rows) * 1.15 + 2))
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("Held-out accuracy (%), strict reading, with 95% intervals")
    return figure
