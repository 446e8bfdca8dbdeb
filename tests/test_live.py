"""The progress line's note: what is spent, and about how much it will be in all."""

import pytest

from taskdef.config import InstructorConfig, build_config
from taskdef.instruct.budget import Amount, Budget, Caps
from taskdef.instruct.chat import ChatResponse
from taskdef.instruct.meter import Meter
from taskdef.instruct.prices import Prices
from taskdef.live import LiveProjection, short_count, synthesis_outlook, with_spending
from taskdef.progress import SilentProgress
from taskdef.synthesize.stage import Tally

PRICED = {"price_input": 1e4, "price_output": 1e4}  # a cent a token


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def advance(self, units: int = 1, note: str = "") -> None:
        self.notes.append(note)


def make_meter(**prices: float) -> Meter:
    return Meter(Budget(Caps(), Amount()), Prices("m", "http://here", InstructorConfig(**prices)))  # type: ignore[arg-type]


def unit(meter: Meter, purpose: str, tokens: int, cost: float | None) -> None:
    """One call of so many tokens that came back, as sender and RecordedChat count it."""
    meter.began(purpose)
    meter.ended(purpose, [ChatResponse("text", "stop", tokens // 2, tokens - tokens // 2, cost=cost)], True)
    meter._budget.spent += Amount(cost or 0.0, tokens, 1)


def test_rewrites_to_come_are_counted_at_the_mean_of_those_that_came() -> None:
    notes, meter = Notes(), make_meter(**PRICED)
    live = LiveProjection(notes, meter)
    live.start("rewrite", 4)
    unit(meter, "harder", 20, 0.2)
    unit(meter, "answer", 30, 0.3)
    live.advance()
    assert notes.notes == ["0.5 usd, about 2.00 in all"]  # three more of 0.2 + 0.3


def test_a_draft_that_is_written_but_not_decided_yet_is_not_counted_twice() -> None:
    notes, meter = Notes(), make_meter(**PRICED)
    live = LiveProjection(notes, meter)
    live.start("rewrite", 4)
    for _ in range(4):
        unit(meter, "harder", 20, 0.2)
    unit(meter, "answer", 30, 0.3)
    live.advance()
    assert notes.notes == ["1.10 usd, about 2.00 in all"]


def test_drafts_that_never_reach_the_vote_cost_no_votes() -> None:
    notes, meter = Notes(), make_meter(**PRICED)
    live = LiveProjection(notes, meter)
    live.start("rewrite", 4)
    for _ in range(2):
        unit(meter, "easier", 20, 0.2)
    unit(meter, "answer", 30, 0.3)
    live.advance(2)  # one of them was dropped unread: a half goes to the vote
    assert notes.notes == ["0.7 usd, about 1.40 in all"]  # + 2 x 0.2 + (4 x 1/2 - 1) x 0.3


def test_a_draft_of_several_steps_is_counted_by_its_last() -> None:
    notes, meter = Notes(), make_meter(**PRICED)
    live = LiveProjection(notes, meter)
    live.start("drafts", 4)
    unit(meter, "contexts", 10, 0.1)
    for _ in range(2):
        unit(meter, "constrain", 20, 0.2)
        unit(meter, "correct", 10, 0.1)
    unit(meter, "answer", 30, 0.3)
    live.advance()
    assert notes.notes == ["1.00 usd, about 2.60 in all"]  # two drafts more of 0.7 / 2, three votes more of 0.3


def test_without_a_price_tokens_are_projected_and_without_tokens_calls() -> None:
    for tokens, wanted in ((600, "1.2k tokens, about 4.8k in all"), (0, "2 calls, about 8 in all")):
        notes, meter = Notes(), make_meter()
        live = LiveProjection(notes, meter)
        live.start("rewrite", 4)
        unit(meter, "harder", tokens, None)
        unit(meter, "answer", tokens, None)
        live.advance()
        assert notes.notes == [wanted]


def test_synthesis_looks_ahead_to_further_drafts_and_to_the_rewrites() -> None:
    config = build_config(overrides={"synthesize.samples": 10, "synthesize.max_draft_factor": 3})
    tally = Tally()
    outlook = synthesis_outlook(config, tally)
    assert outlook(0.5) == (20.0, 10.0)  # none decided: at most half of the drafts can be kept
    tally.samples, tally.dropped["unparseable"] = 4, 4
    assert outlook(0.5) == (20.0, 10.0)
    tally.dropped["unparseable"] = 36  # one in ten: drafts end at 30
    assert outlook(0.5) == (30.0, 3.0)
    off = build_config(overrides={"synthesize.samples": 10, "adapt.enabled": False})
    assert synthesis_outlook(off, tally)(0.5)[1] == 0.0


def test_a_note_of_the_work_itself_stays_first() -> None:
    notes, meter = Notes(), make_meter(**PRICED)
    live = LiveProjection(notes, meter)
    live.start("rewrite", 1)
    unit(meter, "harder", 20, 0.2)
    live.advance(1, "3 harder")
    assert notes.notes == ["3 harder, 0.2 usd, about 0.2 in all"]


def test_a_program_costs_nothing_and_gets_no_note() -> None:
    progress = SilentProgress()
    assert with_spending(progress, None) is progress


@pytest.mark.parametrize(("value", "text"), [(812, "812"), (12_345, "12.3k"), (123_456, "123k"), (1_234_567, "1.2M")])
def test_counts_are_short(value: int, text: str) -> None:
    assert short_count(value) == text
