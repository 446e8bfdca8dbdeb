"""What calls come to, by purpose, in memory."""

import math

import pytest

from taskdef.config import InstructorConfig
from taskdef.instruct.budget import Amount, Budget, Caps
from taskdef.instruct.chat import ChatResponse
from taskdef.instruct.meter import Meter, Spread
from taskdef.instruct.prices import Prices


def make_meter(**prices: float) -> Meter:
    return Meter(Budget(Caps(), Amount()), Prices("m", "http://here", InstructorConfig(**prices)))  # type: ignore[arg-type]


def response(read: int, written: int, cost: float | None = None, seconds: float = 2.0) -> ChatResponse:
    return ChatResponse("text", "stop", read, written, cached_tokens=read // 2, cost=cost, seconds=seconds)


def test_a_spread_is_mean_and_deviation_of_logarithms() -> None:
    spread = Spread()
    for value in (1.0, math.e**2, 0.0):  # logarithms 0 and 2; 0 tokens are no figure
        spread.add(value)
    assert (spread.count, spread.mean, spread.squares) == (2, pytest.approx(1.0), pytest.approx(2.0))


def test_votes_of_one_call_are_one_unit_and_one_call() -> None:
    meter = make_meter(price_input=1.0, price_output=2.0)
    meter.began("answer")
    meter.ended("answer", [response(100, 10, 1.0), response(0, 12, 0.5), response(0, 8, 0.5)], takes_count=True)
    votes = meter.work["answer"]
    assert (votes.begun, votes.done, votes.responses, votes.calls) == (1, 1, 3, 1)
    assert (votes.read, votes.cached, votes.written, votes.cost, votes.unpriced) == (100, 50, 30, 2.0, 0)
    assert votes.seconds == 2.0  # the call's, not three times


def test_votes_sent_one_by_one_are_as_many_calls() -> None:
    meter = make_meter()
    meter.ended("answer", [response(100, 10), response(100, 12)], takes_count=False)
    assert (meter.work["answer"].calls, meter.work["answer"].seconds) == (2, 4.0)
    assert meter.work["answer"].unpriced == 2


@pytest.mark.parametrize(("takes_count", "calls"), [(True, 1), (False, 2)])
def test_calls_are_known_where_the_endpoint_does_not_count_tokens(takes_count: bool, calls: int) -> None:
    meter = make_meter()
    meter.ended("answer", [response(0, 0), response(0, 0)], takes_count)
    assert meter.work["answer"].calls == calls


def test_the_total_is_over_the_purposes_named() -> None:
    meter = make_meter()
    for purpose in ("generate", "harder", "keywords"):
        meter.ended(purpose, [response(10, 1)], takes_count=True)
    assert (meter.total().read, meter.total("generate", "harder").read, meter.total("easier").read) == (30, 20, 0)


def test_a_price_is_in_dollars_and_unknown_without_one() -> None:
    assert make_meter(price_input=1.0, price_output=2.0).price(1_000_000, 500_000) == 2.0
    assert make_meter().price(1_000_000, 500_000) is None
