"""From a handful of drafts to ranges for the full run."""

import numpy as np
import pytest

from taskdef.config import InstructorConfig, RunConfig, build_config
from taskdef.instruct.budget import Amount, Budget, Caps
from taskdef.instruct.chat import ChatResponse
from taskdef.instruct.meter import Meter
from taskdef.instruct.prices import Prices
from taskdef.preview.projection import Projection, Range, Seen, in_flight, project

PRICES = {"price_input": 1.0, "price_output": 3.0}


def make_meter(**prices: float) -> Meter:
    return Meter(Budget(Caps(), Amount()), Prices("m", "http://here", InstructorConfig(**prices)))  # type: ignore[arg-type]


def count(meter: Meter, purpose: str, read: int, written: int, responses: int = 1) -> None:
    """One unit of work, its tokens divided among its responses."""
    first = ChatResponse("", "stop", read, written - (responses - 1) * (written // responses), cost=0.0, seconds=2.0)
    others = [ChatResponse("", "stop", 0, written // responses, cost=0.0, seconds=2.0)] * (responses - 1)
    meter.began(purpose)
    meter.ended(purpose, [first, *others], takes_count=True)


def make_config(**settings: object) -> RunConfig:
    return build_config(overrides={"synthesize.samples": 20, "synthesize.votes": 4} | settings)


def preview_of(
    rng: np.random.Generator, meter: Meter, drafts: int, *, voted: float, won: float, tokens: float = 300.0
) -> tuple[Seen, int]:
    """Play drafts and their rewrites with known shares and lengths; gives the counts and how many drafts it took."""
    seen = {"drafts": 0, "voted": 0, "kept": 0, "rewrites": 0, "rewrites_voted": 0, "rewrites_kept": 0}

    def play(purpose: str, prefix: str) -> bool:
        count(meter, purpose, round(400 * rng.lognormal(0, 0.1)), round(tokens * rng.lognormal(0, 0.4)))
        if rng.random() > voted:
            return False
        seen[f"{prefix}voted"] += 1
        count(meter, "answer", round(200 * rng.lognormal(0, 0.1)), round(4 * tokens * rng.lognormal(0, 0.4)), 4)
        return bool(rng.random() < won)

    while seen["drafts"] < drafts:
        seen["drafts"] += 1
        if play("generate", ""):
            seen["kept"] += 1
            seen["rewrites"] += 1
            seen["rewrites_kept"] += play("harder", "rewrites_")
    return Seen(**seen), seen["drafts"]


def test_nothing_is_left_where_the_preview_made_all_samples() -> None:
    meter = make_meter(**PRICES)
    for _ in range(3):
        count(meter, "generate", 400, 100)
        count(meter, "answer", 200, 80, 4)
    config = make_config(**{"synthesize.samples": 3, "adapt.enabled": False})
    found = project(Seen(3, 3, 3, 0, 0, 0), meter, config)
    assert found.drafts == Range(3, 3, 3)
    assert found.calls == Range(6, 6, 6)
    assert (found.read, found.written) == (Range(1800, 1800, 1800), Range(540, 540, 540))
    assert found.rest["calls"] == Range(0, 0, 0)
    assert found.seconds is None


def test_the_ranges_hold_what_runs_of_known_shares_come_to() -> None:
    """Runs drawn from the model's own kind: the 95% ranges must hold in most of them, whichever figure is looked at."""
    config = make_config(**{"synthesize.samples": 40, "synthesize.max_draft_factor": 4})
    runs, misses = 60, {"calls": 0, "read": 0, "written": 0}
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        meter = make_meter()
        seen, _ = preview_of(rng, meter, 8, voted=0.8, won=0.7)
        found = project(seen, meter, config)
        rest = make_meter()
        kept, asked = seen.kept, seen.drafts
        while kept < 40 and asked < 160:
            asked += 1
            kept += preview_of(rng, rest, 1, voted=0.8, won=0.7)[0].kept
        total = rest.total()
        misses["calls"] += not found.rest["calls"].holds(total.calls)
        misses["read"] += not found.rest["read"].holds(total.read)
        misses["written"] += not found.rest["written"].holds(total.written)
    assert max(misses.values()) <= 0.1 * runs, misses


def test_a_range_is_wide_with_one_sample_and_narrows_with_more() -> None:
    widths = []
    for drafts in (1, 5, 50):
        rng, meter = np.random.default_rng(1), make_meter()
        seen, _ = preview_of(rng, meter, drafts, voted=1.0, won=1.0)
        found = project(seen, meter, make_config(**{"synthesize.samples": 500}))
        assert found.rest["written"].low > 0
        widths.append(found.rest["written"].high / found.rest["written"].low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 1.6


def test_drafts_end_at_their_most_and_samples_at_those_wanted() -> None:
    rng, meter = np.random.default_rng(0), make_meter()
    seen, _ = preview_of(rng, meter, 10, voted=0.4, won=0.4)
    found = project(seen, meter, make_config(**{"synthesize.max_draft_factor": 2}))
    assert found.drafts.high == 40
    assert 0 <= found.samples.low <= found.samples.high <= 20
    assert found.pool.high <= 40


def test_no_answer_is_longer_than_the_limit_allows() -> None:
    meter = make_meter()
    count(meter, "generate", 400, 90)
    count(meter, "answer", 200, 360, 4)
    config = make_config(**{"instruct.max_tokens": 100, "synthesize.samples": 20, "synthesize.max_draft_factor": 1})
    found = project(Seen(1, 1, 1, 0, 0, 0), meter, config)
    assert found.written is not None
    assert found.written.high <= 40 * (100 + 400)  # 20 drafts and 20 rewrites, each with 4 votes


def test_unknown_stays_unknown() -> None:
    priced, unpriced, uncounted = make_meter(**PRICES), make_meter(), make_meter(**PRICES)
    for meter in (priced, unpriced):
        count(meter, "generate", 400, 100)
        count(meter, "answer", 200, 80, 4)
    count(uncounted, "generate", 0, 0)
    count(uncounted, "answer", 0, 0, 4)
    seen = Seen(1, 1, 1, 0, 0, 0)

    def of(meter: Meter) -> Projection:
        return project(seen, meter, make_config())

    assert of(unpriced).cost is None
    cost = of(priced).cost
    assert cost is not None
    assert 0 < cost.low < cost.high
    assert of(uncounted).cost is None
    assert of(uncounted).read is None
    assert of(uncounted).calls.low >= 2


def test_a_program_is_asked_for_nothing() -> None:
    found = project(Seen(5, 5, 5, 5, 5, 5), None, make_config())
    assert (found.calls, found.cost, found.seconds) == (Range(0, 0, 0), None, None)
    assert found.samples == Range(20, 20, 20)


def test_calls_in_flight_are_their_time_over_the_time_there_were_any() -> None:
    assert in_flight([(0.0, 2.0), (1.0, 2.0), (10.0, 1.0)]) == pytest.approx(5 / 4)
    assert in_flight([]) == 1.0


def test_time_lies_between_full_concurrency_and_that_of_the_preview() -> None:
    meter = make_meter()
    for _ in range(5):
        count(meter, "generate", 400, 100)
        count(meter, "answer", 200, 80, 4)
    config = make_config(**{"synthesize.samples": 1000, "instruct.concurrency": 4, "adapt.enabled": False})
    seconds = project(Seen(5, 5, 5, 0, 0, 0), meter, config, exchanges=[(0.0, 2.0), (0.0, 2.0)]).seconds
    assert seconds is not None
    # about 2000 to 2700 calls of 2 s: by 4 at once, or by 2
    assert 990 <= seconds.low < seconds.middle < seconds.high
    limited = make_config(**{"synthesize.samples": 1000, "instruct.requests_per_minute": 60, "adapt.enabled": False})
    slow = project(Seen(5, 5, 5, 0, 0, 0), meter, limited).seconds
    assert slow is not None
    assert slow.low >= 1985  # a call a second
