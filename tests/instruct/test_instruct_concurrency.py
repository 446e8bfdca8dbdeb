"""How many requests are in flight: growth, the throughput that ends it, halving, waiting, priority."""

import asyncio
import time

import pytest

from taskdef.instruct.concurrency import FIRST_LIMIT, AdaptiveLimit, MinuteLimit


def use(limit: AdaptiveLimit, requests: int, slots: int, seconds: float) -> float:
    """Send requests to something with so many slots; gives the seconds it took."""

    async def all_of_them() -> float:
        server = asyncio.Semaphore(slots)

        async def one() -> None:
            async with limit.slot(0):
                async with server:
                    await asyncio.sleep(seconds)
                limit.succeeded()

        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(requests)))
        return time.monotonic() - began

    return asyncio.run(all_of_them())


def test_it_grows_to_what_the_endpoint_can_use() -> None:
    limit = AdaptiveLimit(1000)
    use(limit, 2000, slots=64, seconds=0.02)
    assert 64 <= limit.highest <= 300


def test_it_does_not_grow_where_that_buys_only_waiting() -> None:
    limit = AdaptiveLimit(1000)
    use(limit, 200, slots=2, seconds=0.01)
    assert limit.highest <= 4 * FIRST_LIMIT


def test_never_more_than_the_most() -> None:
    limit = AdaptiveLimit(5)
    use(limit, 200, slots=100, seconds=0.001)
    assert limit.highest == 5


def test_an_overload_halves_once_for_all_that_were_under_way() -> None:
    async def several() -> list[float]:
        limit = AdaptiveLimit(100)
        limits = [limit.limit]
        async with limit.slot(0) as first, limit.slot(0) as second:
            limit.overloaded(first, None)
            limits.append(limit.limit)
            limit.overloaded(second, None)  # took its slot before the limit was halved
            limits.append(limit.limit)
        async with limit.slot(0) as third:
            limit.overloaded(third, None)
            limits.append(limit.limit)
        return limits

    assert asyncio.run(several()) == [32, 16, 16, 8]


def test_the_limit_stays_at_one_at_least() -> None:
    async def many() -> float:
        limit = AdaptiveLimit(100)
        for _ in range(20):
            async with limit.slot(0) as began:
                limit.overloaded(began, None)
        return limit.limit

    assert asyncio.run(many()) == 1.0


def test_it_grows_again_from_one_when_an_overload_is_over() -> None:
    limit = AdaptiveLimit(1000)
    limit._is_starting = False
    limit.limit = 1.0
    use(limit, 600, slots=64, seconds=0.002)
    assert limit.limit > 8


def test_a_named_wait_holds_everything_back() -> None:
    async def held() -> float:
        limit = AdaptiveLimit(100)
        async with limit.slot(0) as began:
            limit.overloaded(began, 0.1)
        asked = time.monotonic()
        async with limit.slot(0) as later:
            return later - asked

    assert 0.09 <= asyncio.run(held()) < 0.5


def test_votes_go_before_drafts_that_wait_longer() -> None:
    order = []

    async def turn(limit: AdaptiveLimit, priority: int, name: str) -> None:
        async with limit.slot(priority):
            order.append(name)
            await asyncio.sleep(0)

    async def queue() -> None:
        limit = AdaptiveLimit(1)
        await asyncio.gather(*(turn(limit, *one) for one in [(1, "a"), (1, "b"), (1, "c"), (0, "vote"), (1, "d")]))

    asyncio.run(queue())
    assert order == ["a", "vote", "b", "c", "d"]


def test_a_slot_whose_waiter_is_gone_is_not_lost() -> None:
    async def cancelled() -> int:
        limit = AdaptiveLimit(1)

        async def hold() -> None:
            async with limit.slot(0):
                await asyncio.sleep(0.01)

        tasks = [asyncio.ensure_future(hold()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with limit.slot(0):
            return limit.in_flight

    assert asyncio.run(cancelled()) == 1


def test_no_more_units_than_allowed_begin_in_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskdef.instruct.concurrency._MINUTE", 0.1)

    async def begin() -> list[float]:
        limit, begun = MinuteLimit(10), []
        for _ in range(5):
            await limit.take(4)
            begun.append(time.monotonic())
        return [moment - begun[0] for moment in begun]

    moments = asyncio.run(begin())
    assert moments[1] < 0.05  # 4 + 4 fit, a third one does not
    assert 0.1 <= moments[2] < 0.19
    assert moments[4] >= 0.2


def test_something_larger_than_the_limit_goes_alone() -> None:
    asyncio.run(MinuteLimit(10).take(50))
    asyncio.run(MinuteLimit(None).take(10**9))
