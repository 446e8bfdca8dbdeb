"""How figures look, and how they are saved: SVG and PDF at the width of a paper's column or page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskdef.errors import RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.4, 7.0
"""Widths in inches."""
COLOURS = {"initial": "#0072b2", "all": "#e69f00", "training": "#009e73", "human": "#4d4d4d"}
"""Of the sets; Okabe and Ito's, which all kinds of eyes tell apart."""
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d", "#b3a300")
"""Of runs, in their order."""
DASHES = {"initial": "-", "all": (0, (5, 1.5)), "training": (0, (1.5, 1.2)), "human": (0, (6, 1.5, 1.5, 1.5))}
"""Of the sets: they can be told apart in print without colour too."""
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.3,
    "pdf.fonttype": 42,  # text that a publisher can edit and search
    "svg.fonttype": "path",  # looks alike on machines without the font
    "svg.hashsalt": "taskdef",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
}


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures made and saved inside, and of no others."""
    import logging

    import matplotlib

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # names each font of the list that is missing
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1, **given: Any) -> tuple[Figure, list[Axes]]:
    """A figure of that size in inches, and its axes, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, **given)
    return figure, list(grid.flat)


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """``name.svg`` and ``name.pdf``, without a date, so that equal figures are equal files. Raises RunError."""
    paths = [folder / f"{name}.svg", folder / f"{name}.pdf"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], metadata={"CreationDate": None})
    except OSError as error:
        raise RunError(
            f"{folder}: figures cannot be written: {error.strerror}", next_step="name another folder with --out"
        ) from None
    return paths


def smoothed(values: Sequence[float]) -> list[float]:
    """Centred moving average over about a tenth of the values; shorter windows at the ends."""
    reach = max(len(values) // 20, 1)
    return [
        sum(window) / len(window)
        for place in range(len(values))
        for window in [values[max(place - reach, 0) : place + reach + 1]]
    ]
