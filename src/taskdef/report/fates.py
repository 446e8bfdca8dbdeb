"""What became of the drafts, told apart by the passages they were written from: is relevance worth anything here?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskdef.records import Drop, DropReason, Passage, Relevance, Sample, Stage, Verdict
from taskdef.report.gather import Artifacts, attempts_on

_UNREAD = (DropReason.INSTRUCTOR_FAILED, DropReason.UNPARSEABLE)
_UNDECIDED = (DropReason.GOLD_FAILS, DropReason.NO_MAJORITY)
_GROUPS = 4
MOST_USED = 20
"""Documents whose share of the drafts is told."""


@dataclass(frozen=True)
class DraftFate:
    """How far one draft came. None: not decided, because the draft ended before or the stage is not done."""

    passage_id: str | None
    parsed: bool
    """An input and an output could be read."""
    distinct: bool | None = None
    """It is no duplicate, and overlaps with no test row and no demo."""
    agreed: bool | None = None
    """The vote settled its label."""
    solved: bool | None = None
    """The greedy attempt was right."""
    selected: bool | None = None
    """It, or its rewrite, is in the training set."""


@dataclass(frozen=True)
class FateRow:
    """The drafts of one group of passages; each share is of those that came that far."""

    label: str
    drafts: int
    parsed: float | None
    distinct: float | None
    agreed: float | None
    solved: float | None
    selected: float | None


@dataclass(frozen=True)
class DocumentUse:
    """How often documents were written from."""

    documents: int
    """Documents written from at all."""
    drafts: int
    most_used: tuple[tuple[str, int], ...]
    """Documents with their drafts, the most used first."""

    @property
    def share_of_most_used(self) -> float | None:
        """The share of the drafts that the most used documents gave."""
        return sum(count for _, count in self.most_used) / self.drafts if self.drafts else None


def draft_fates(
    initial: Sequence[Sample],
    drops: Sequence[Drop],
    greedy: Mapping[str, Verdict],
    selected: Sequence[Sample] | None,
) -> list[DraftFate]:
    """One fate a draft. ``greedy``: verdicts by sample id; ``selected``: None before the selection is done."""
    chosen = None if selected is None else {sample.parent_id or sample.id for sample in selected}
    fates = [
        DraftFate(
            sample.passage_id,
            parsed=True,
            distinct=True,
            agreed=True,
            solved=_solved(greedy.get(sample.id)),
            selected=None if chosen is None else sample.id in chosen,
        )
        for sample in initial
    ]
    for drop in drops:
        if drop.stage is not Stage.SYNTHESIZE:
            continue
        if drop.reason in _UNREAD:
            fates.append(DraftFate(drop.passage_id, parsed=False))
        elif drop.reason in _UNDECIDED:
            fates.append(DraftFate(drop.passage_id, parsed=True, distinct=True, agreed=False))
        else:
            fates.append(DraftFate(drop.passage_id, parsed=True, distinct=False))
    return fates


def sum_up(label: str, fates: Sequence[DraftFate]) -> FateRow:
    """The shares of one group."""
    return FateRow(
        label,
        len(fates),
        *(_share([getattr(fate, step) for fate in fates]) for step in ("parsed", "distinct", "agreed")),
        *(_share([getattr(fate, step) for fate in fates]) for step in ("solved", "selected")),
    )


def fates_by_score(fates: Sequence[DraftFate], passages: Sequence[Passage]) -> list[FateRow]:
    """Quarters of the drafts by their passages' scores, the highest first; none where the scores are all alike."""
    scores = {passage.id: passage.score for passage in passages}
    scored = sorted(
        (fate for fate in fates if fate.passage_id in scores), key=lambda fate: -scores[fate.passage_id or ""]
    )
    if len({scores[fate.passage_id or ""] for fate in scored}) < 2:
        return []
    rows = []
    for group in range(_GROUPS):
        of_group = scored[group * len(scored) // _GROUPS : (group + 1) * len(scored) // _GROUPS]
        if of_group:
            high, low = scores[of_group[0].passage_id or ""], scores[of_group[-1].passage_id or ""]
            rows.append(sum_up(f"{high:.1f} to {low:.1f}", of_group))
    return rows


def fates_by_grade(fates: Sequence[DraftFate], grades: Mapping[str, str]) -> list[FateRow]:
    """The drafts of graded passages by their grade (``grades``: by passage id), the most relevant first."""
    return [
        sum_up(grade.value, [fate for fate in fates if grades.get(fate.passage_id or "") == grade])
        for grade in Relevance
        if grade in grades.values()
    ]


def document_use(fates: Sequence[DraftFate], passages: Sequence[Passage]) -> DocumentUse:
    """How often each document was written from."""
    documents = {passage.id: passage.document or passage.id for passage in passages}
    used = Counter(documents[fate.passage_id] for fate in fates if fate.passage_id in documents)
    return DocumentUse(len(used), used.total(), tuple(used.most_common(MOST_USED)))


def run_fates(artifacts: Artifacts) -> list[DraftFate]:
    """The fates of all drafts of a run, as far as it has come."""
    found = attempts_on(artifacts, {sample.id for sample in artifacts.initial})[Stage.ADAPT]
    greedy = {identity: attempts[-1].verdict for identity, attempts in found.items()}
    selected = artifacts.selected if artifacts.is_done(Stage.SELECT) else None
    return draft_fates(artifacts.initial, artifacts.drops, greedy, selected)


def fate_tables(artifacts: Artifacts, fates: Sequence[DraftFate]) -> list[tuple[str, list[FateRow]]]:
    """Headings and rows for the page: all drafts, by score, and by grade where the passages were audited."""
    if not fates:
        return []
    tables = [
        ("all", [sum_up("all drafts", fates)]),
        ("passage score", fates_by_score(fates, artifacts.passages)),
        ("grade", fates_by_grade(fates, artifacts.grades)),
    ]
    return [(heading, rows) for heading, rows in tables if rows]


def _solved(verdict: Verdict | None) -> bool | None:
    return None if verdict in (None, Verdict.VERIFIER_ERROR) else verdict is Verdict.CORRECT


def _share(values: Sequence[bool | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
