"""Drafts by what became of them, told apart by their passages; counted by hand."""

from collections.abc import Callable

import pytest

from taskdef.records import Drop, DropReason, Origin, Passage, Sample, Stage, Verdict
from taskdef.report.fates import (
    DraftFate,
    FateRow,
    document_use,
    draft_fates,
    fates_by_grade,
    fates_by_score,
    sum_up,
)
from taskdef.report.render import render_report
from taskdef.store import RunDirectory


def sample(number: int, passage: str = "p") -> Sample:
    return Sample(id=f"s{number}", input=f"{number}?", solution="#### 1", answer="1", passage_id=passage)


def drop(number: int, reason: DropReason, stage: Stage = Stage.SYNTHESIZE) -> Drop:
    return Drop(reason=reason, stage=stage, id=f"s{number}", passage_id="p")


def test_how_far_each_draft_came() -> None:
    samples = [sample(number) for number in range(4)]
    rewrite = sample(9).model_copy(update={"id": "s1-harder", "parent_id": "s1", "origin": Origin.HARDER})
    drops = [
        drop(4, DropReason.UNPARSEABLE),
        drop(5, DropReason.DUPLICATE),
        drop(6, DropReason.NO_MAJORITY),
        drop(7, DropReason.GOLD_FAILS),
        drop(1, DropReason.NO_REWRITE, Stage.ADAPT),  # of a rewrite: no draft
    ]
    greedy = {"s0": Verdict.CORRECT, "s1": Verdict.WRONG, "s2": Verdict.VERIFIER_ERROR}
    fates = draft_fates(samples, drops, greedy, [samples[0], rewrite])
    assert len(fates) == 8
    # parsed 7 of 8; distinct 6 of those 7; agreed 4 of those 6; solved 1 of the 2 with a verdict; selected: s0, s1
    assert sum_up("all", fates) == FateRow("all", 8, 7 / 8, 6 / 7, 4 / 6, 1 / 2, 2 / 4)


def test_what_is_not_known_yet_has_no_share() -> None:
    row = sum_up("all", draft_fates([sample(0)], [], {}, None))
    assert (row.parsed, row.agreed, row.solved, row.selected) == (1, 1, None, None)
    assert sum_up("none", []) == FateRow("none", 0, None, None, None, None, None)


def test_quarters_by_score_from_the_best_down() -> None:
    passages = [Passage(id=f"p{n}", text="t", source="s", score=float(n)) for n in range(8)]
    fates = [DraftFate(f"p{n}", parsed=n > 1) for n in range(8)] + [DraftFate(None, parsed=True)]
    rows = fates_by_score(fates, passages)
    assert [(row.label, row.drafts, row.parsed) for row in rows] == [
        ("7.0 to 6.0", 2, 1),
        ("5.0 to 4.0", 2, 1),
        ("3.0 to 2.0", 2, 1),
        ("1.0 to 0.0", 2, 0),
    ]


def test_equal_scores_tell_nothing_apart() -> None:
    passages = [Passage(id=f"p{n}", text="t", source="s") for n in range(3)]
    assert fates_by_score([DraftFate(f"p{n}", parsed=True) for n in range(3)], passages) == []


def test_by_grade_only_graded_passages_count() -> None:
    fates = [
        DraftFate("a", parsed=True),
        DraftFate("a", parsed=False),
        DraftFate("b", parsed=False),
        DraftFate("c", True),
    ]
    rows = fates_by_grade(fates, {"a": "relevant", "b": "irrelevant"})
    assert [(row.label, row.drafts, row.parsed) for row in rows] == [("relevant", 2, 0.5), ("irrelevant", 1, 0)]


def test_documents_are_counted_by_the_drafts_they_gave() -> None:
    passages = [Passage(id=f"{file}#{n}", text="t", source="s", document=file) for file in "ab" for n in range(3)]
    fates = [DraftFate(identity, parsed=True) for identity in ("a#0", "a#1", "a#0", "b#2", None)]
    use = document_use(fates, passages)
    assert (use.documents, use.drafts, use.most_used) == (2, 4, (("a", 3), ("b", 1)))
    assert use.share_of_most_used == 1
    assert document_use([], passages).share_of_most_used is None


@pytest.mark.parametrize("until", [Stage.RETRIEVE, Stage.SYNTHESIZE, Stage.EVALUATE])
def test_the_page_shows_what_is_known(make_run: Callable[..., RunDirectory], until: Stage) -> None:
    page = render_report(make_run(until)).read_text(encoding="utf-8")
    assert ("What became of the drafts" in page) is (until is not Stage.RETRIEVE)
    assert ("Which documents the drafts were written from" in page) is (until is not Stage.RETRIEVE)
