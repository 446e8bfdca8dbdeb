"""The report's part on what ``taskdef analyze`` measured; empty where it was not asked."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskdef.report.charts import Stack, bars
from taskdef.report.gather import Artifacts
from taskdef.report.panels import RATE_LABELS, RATE_TICKS, Panel, rate_bins
from taskdef.report.text import number

SET_NAMES = {
    "initial": "Initial samples",
    "all": "After adaptation",
    "training": "Training set",
    "human": "Human data",
}


@dataclass(frozen=True)
class TextRow:
    """One set of texts in the table."""

    name: str
    count: int
    input_tokens: float | None
    """Median."""
    solution_tokens: float | None
    distinct: Mapping[str, float | None]
    self_bleu: float | None
    cosine: float | None
    nearest: float | None
    equal: int
    near: int


@dataclass(frozen=True)
class AnalysisPart:
    """What the page shows of an analysis."""

    rows: list[TextRow]
    distinct_texts: int
    panels: list[Panel]
    human: str | None
    votes: Mapping[str, Any] | None
    not_measured: Mapping[str, str] = field(default_factory=dict)


def analysis_part(artifacts: Artifacts) -> AnalysisPart | None:
    """The part, from ``analysis.json``."""
    found = artifacts.analysis
    if not found:
        return None
    alike = {one["name"]: one for one in found["similarity"]}
    return AnalysisPart(
        rows=[_row(one, alike.get(one["name"], {})) for one in found["texts"]],
        distinct_texts=min((one["distinct_texts"] for one in found["texts"]), default=0),
        panels=[*_similarity_panels(found["similarity"]), *_human_panels(found["rates"])],
        human=found["human"],
        votes=found["votes"],
        not_measured=found["not_measured"],
    )


def _row(one: Mapping[str, Any], cosine: Mapping[str, Any]) -> TextRow:
    return TextRow(
        name=SET_NAMES.get(one["name"], one["name"]),
        count=one["count"],
        input_tokens=_median(one["input_tokens"]),
        solution_tokens=_median(one["solution_tokens"]),
        distinct=one["distinct"],
        self_bleu=one["self_bleu"],
        cosine=cosine.get("mean"),
        nearest=cosine.get("nearest"),
        equal=one["equal"],
        near=one["near"],
    )


def _similarity_panels(found: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Pairs in a thousand by their cosine, all sets on one scale."""
    counts = {one["name"]: [round(1000 * count / one["pairs"]) for count in one["counts"]] for one in found}
    highest = max((max(given) for given in counts.values()), default=1)
    panels = []
    for one in found:
        width = (one["high"] - one["low"]) / len(one["counts"])
        lows = [one["low"] + place * width for place in range(len(one["counts"]))]
        ticks = [
            (place - 0.5, f"{low:g}") for place, low in enumerate(map(_rounded, lows)) if low in (0, 0.25, 0.5, 0.75)
        ]
        name = SET_NAMES.get(one["name"], one["name"])
        panels.append(
            Panel(
                f"Likeness: {name.lower()}",
                f"pairs in a thousand by their cosine; mean {number(one['mean'])}",
                bars(
                    [f"{low:.3f} to {low + width:.3f}" for low in lows],
                    [Stack("of a thousand pairs", "initial", counts[one["name"]])],
                    what=f"Cosine similarity of pairs, {name}",
                    ticks=ticks,
                    highest=highest,
                ),
            )
        )
    return panels


def _human_panels(rates: Sequence[Mapping[str, Any]]) -> list[Panel]:
    return [
        Panel(
            "Pass rates: human data",
            f"{number(len(one['rates']))} rows, the same model and temperature",
            bars(
                RATE_LABELS,
                [Stack("human rows", "initial", rate_bins(one["rates"]))],
                what="Pass rates, human data",
                ticks=RATE_TICKS,
                apart=(0, 11),
            ),
        )
        for one in rates
        if one["name"] == "human" and one["rates"]
    ]


def _median(values: Sequence[int] | None) -> float | None:
    return float(statistics.median(values)) if values else None


def _rounded(value: float) -> float:
    return round(value, 6)
