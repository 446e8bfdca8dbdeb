"""Which samples, drops and held-out rows the page carries to be looked at: a selection that opens fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from taskdef.records import Attempt, Drop, Passage, PassRate, Sample, Stage, TestRow, Verdict
from taskdef.report.gather import Artifacts, attempts_on
from taskdef.report.text import clip

SAMPLES = 100
"""Samples on the page at most."""
SELECTED_FIRST = 70
"""Of these, chosen for training."""
DROPS = 120
HELD_OUT = 24
CHARACTERS = 360_000
"""Characters of sample text on the page at most: escaped and encoded it stays well under a megabyte."""
TEXT, SHORT = 1500, 600
"""Where a sample's own texts and those beside it (passage, attempts) are cut."""


@dataclass(frozen=True)
class Sheet:
    """One sample with everything known of it."""

    sample: Sample
    selected: bool
    rate: PassRate | None
    passage: Passage | None
    parent: Sample | None
    greedy: Attempt | None
    """The greedy attempt that decided which way the sample was rewritten."""
    attempts: Sequence[Attempt] = field(default_factory=tuple)
    """Scored attempts, one of each verdict that occurred."""

    @property
    def band(self) -> str:
        """The pass rate as the browser's filter knows it."""
        rate = self.rate.rate if self.rate else None
        if rate is None:
            return "unknown"
        if rate in (0, 1):
            return "never" if rate == 0 else "always"
        return "low" if rate <= 0.5 else "high"


@dataclass(frozen=True)
class HeldOut:
    """One held-out row with each model's attempt at it."""

    row: TestRow
    kind: str
    """Which of base and tuned model got it right."""
    attempts: dict[str, Attempt]


def choose_sheets(artifacts: Artifacts) -> list[Sheet]:
    """The samples to show: the selected ones first, in the order of their rank, then some of the others."""
    pool = artifacts.adapted or artifacts.initial
    chosen_ids = {sample.id for sample in artifacts.selected}
    others = [sample for sample in pool if sample.id not in chosen_ids]
    first = _spread(artifacts.selected, max(SELECTED_FIRST, SAMPLES - len(others)))
    shown = [*first, *_spread(others, SAMPLES - len(first))]
    by_id = {sample.id: sample for sample in pool}
    passages = {passage.id: passage for passage in artifacts.passages}
    attempts = attempts_on(artifacts, {sample.id for sample in shown})
    sheets: list[Sheet] = []
    characters = 0
    for sample in shown:
        greedy = attempts[Stage.ADAPT].get(sample.id, [])
        sheet = Sheet(
            sample=sample,
            selected=sample.id in chosen_ids,
            rate=artifacts.pass_rates.get(sample.id),
            passage=passages.get(sample.passage_id or ""),
            parent=by_id.get(sample.parent_id or ""),
            greedy=greedy[0] if greedy else None,
            attempts=_one_of_each(attempts[Stage.SELECT].get(sample.id, [])),
        )
        characters += _characters(sheet)
        if characters > CHARACTERS:
            break
        sheets.append(sheet)
    return sheets


def choose_drops(artifacts: Artifacts) -> list[Drop]:
    """Drops to show: every reason in every stage has its turn before any has two."""
    by_cause: dict[tuple[Stage, str], list[Drop]] = {}
    for drop in artifacts.drops:
        by_cause.setdefault((drop.stage, drop.reason), []).append(drop)
    in_turn = [drop for turn in zip_longest(*by_cause.values()) for drop in turn if drop is not None][:DROPS]
    return [drop for drops in by_cause.values() for drop in drops if any(drop is one for one in in_turn)]


def choose_held_out(artifacts: Artifacts) -> list[HeldOut]:
    """Held-out rows to show: right only after training, right only before, wrong both times, right both times."""
    found: dict[str, list[HeldOut]] = {}
    for index, row in enumerate(artifacts.test_rows):
        attempts = {model: given[index] for model, given in artifacts.held_out.items() if index < len(given)}
        if "base" not in attempts or "tuned" not in attempts:
            continue
        base, tuned = (attempts[model].verdict is Verdict.CORRECT for model in ("base", "tuned"))
        kind = {(0, 1): "gained", (1, 0): "lost", (0, 0): "neither", (1, 1): "both"}[int(base), int(tuned)]
        found.setdefault(kind, []).append(HeldOut(row=row, kind=kind, attempts=attempts))
    order = [kind for kind in ("gained", "lost", "neither", "both") if kind in found]
    return [one for kind in order for one in found[kind][: HELD_OUT // len(order)]]


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """``count`` of the samples, evenly spaced, so that all ranks are seen."""
    if count <= 0 or len(samples) <= count:
        return list(samples[: max(count, 0)])
    return [samples[index * len(samples) // count] for index in range(count)]


def _one_of_each(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    first: dict[Verdict, Attempt] = {}
    for attempt in attempts:
        first.setdefault(attempt.verdict, attempt)
    return tuple(first[verdict] for verdict in Verdict if verdict in first)


def _characters(sheet: Sheet) -> int:
    beside = [attempt.text for attempt in sheet.attempts]
    beside += [part.text for part in (sheet.passage, sheet.greedy) if part is not None]
    beside += [sheet.parent.input] if sheet.parent is not None else []
    own = [sheet.sample.input, sheet.sample.solution]
    return sum(len(clip(text, TEXT)) for text in own) + sum(len(clip(text, SHORT)) for text in beside)
