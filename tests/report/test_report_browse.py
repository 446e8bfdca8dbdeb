import dataclasses
from collections.abc import Callable

from taskdef.records import Drop, DropReason, Origin, Stage, Verdict
from taskdef.report import browse
from taskdef.report.gather import gather
from taskdef.store import RunDirectory


def test_samples_are_shown_with_where_they_come_from(make_run: Callable[..., RunDirectory]) -> None:
    sheets = browse.choose_sheets(gather(make_run()))
    assert len(sheets) == browse.SAMPLES
    assert [sheet.selected for sheet in sheets] == [True] * 70 + [False] * 30
    initial = next(sheet for sheet in sheets if sheet.sample.origin is Origin.INITIAL)
    assert initial.passage is not None
    assert initial.passage.id == initial.sample.passage_id
    assert initial.greedy is not None
    assert [attempt.verdict for attempt in initial.attempts] == [Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER]
    rewritten = next(sheet for sheet in sheets if sheet.sample.origin is Origin.EASIER)
    assert rewritten.parent is not None
    assert rewritten.parent.id == rewritten.sample.parent_id


def test_long_texts_do_not_make_the_page_long(make_run: Callable[..., RunDirectory]) -> None:
    artifacts = gather(make_run())
    long = [sample.model_copy(update={"input": "x" * 90_000, "solution": "y" * 90_000}) for sample in artifacts.adapted]
    sheets = browse.choose_sheets(dataclasses.replace(artifacts, adapted=long, selected=long[:150]))
    assert 50 < len(sheets) <= browse.SAMPLES


def test_every_reason_is_shown_before_one_fills_the_list(make_run: Callable[..., RunDirectory]) -> None:
    many = [Drop(reason=DropReason.DUPLICATE, stage=Stage.SYNTHESIZE, id=f"a{i}") for i in range(500)]
    one = Drop(reason=DropReason.GOLD_FAILS, stage=Stage.SYNTHESIZE, id="b")
    drops = browse.choose_drops(dataclasses.replace(gather(make_run(until=None)), drops=[*many, one]))
    assert len(drops) == browse.DROPS
    assert one in drops


def test_held_out_rows_show_gains_and_losses(make_run: Callable[..., RunDirectory]) -> None:
    shown = browse.choose_held_out(gather(make_run()))
    assert {one.kind for one in shown} == {"gained", "neither"}  # the base model is never right strictly
    assert all(one.attempts["tuned"].verdict is Verdict.CORRECT for one in shown if one.kind == "gained")
    assert list(shown[0].attempts) == ["base", "warm_up", "tuned"]
