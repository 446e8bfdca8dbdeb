"""How many requests are in flight: as many as the endpoint gains from, fewer when it says so.

Additive increase, multiplicative decrease. In the beginning every success raises the limit by one, which doubles it
with each round trip. After each window of as many successes as the limit, the throughput decides: by Little's law a
larger limit that brings no higher throughput has bought nothing but latency, so growing ends there; an eighth more is
tried now and then, and kept where it gains. A 429, a 503 or a time-out halves the limit, once for all requests that
were under way then; a Retry-After holds everything back until then.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_LIMIT = 32
_WORTH_GROWING = 1.1
"""Throughput that a larger limit must reach, as a multiple of the best so far."""
_WINDOWS_UNTIL_PROBE = 8
_MINUTE = 60.0


class AdaptiveLimit:
    """Slots for requests, the lower ``priority`` first. One event loop at a time."""

    def __init__(self, most: int) -> None:
        """``most``: never more in flight than that."""
        self.most = most
        self.limit = float(min(FIRST_LIMIT, most))
        self.in_flight = 0
        self.highest = 0
        """Most that were in flight at once."""
        self._is_starting = True
        self._held_until = 0.0
        self._halved_at = -1.0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._best_throughput = 0.0
        self._windows_since_probe = 0
        self._before_probe: float | None = None
        self._begin_window()

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[float]:
        """Wait for a slot and hold it; gives when it was taken (``time.monotonic()``)."""
        await self._take(priority)
        try:
            yield time.monotonic()
        finally:
            self.in_flight -= 1
            self._wake()

    def succeeded(self, amount: int = 1) -> None:
        """A response came whole; ``amount`` is what it was worth (tokens, or 1 where they are not counted)."""
        self._window_successes += 1
        self._window_amount += amount
        self._window_was_full |= self.in_flight >= int(self.limit)
        if self._is_starting and self._window_was_full:
            self._set(self.limit + 1)
        if self._window_successes >= self._window_size:
            self._judge_window()

    def overloaded(self, began: float, retry_after: float | None) -> None:
        """The endpoint said that it has too much to do, to a request that took its slot at ``began``."""
        self._is_starting = False
        now = time.monotonic()
        if retry_after is not None:
            self._held_until = max(self._held_until, now + retry_after)
        if began >= self._halved_at:  # not those that were under way when it was halved last
            self._halved_at = now
            self._best_throughput = 0.0
            self._before_probe = None
            self._set(self.limit / 2)
            self._begin_window()

    async def _take(self, priority: int) -> None:
        if not self._waiting and self._has_room():
            self._enter()
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), turn))
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was this one's turn: the slot goes to the next
                self.in_flight -= 1
                self._wake()
            raise

    def _has_room(self) -> bool:
        return self.in_flight < int(self.limit) and time.monotonic() >= self._held_until

    def _enter(self) -> None:
        self.in_flight += 1
        self.highest = max(self.highest, self.in_flight)

    def _wake(self) -> None:
        while self._waiting and self._has_room():
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._enter()
                turn.set_result(None)
        wait = self._held_until - time.monotonic()
        if self._waiting and wait > 0:
            asyncio.get_running_loop().call_later(wait, self._wake)

    def _judge_window(self) -> None:
        throughput = self._window_amount / max(time.monotonic() - self._window_began, 1e-6)
        if self._window_was_full:
            gained = throughput >= _WORTH_GROWING * self._best_throughput
            if not gained:
                self._is_starting = False
            self._windows_since_probe += 1
            if self._before_probe is not None and not gained:
                self._set(self._before_probe)
                self._before_probe = None
            elif not self._is_starting and (gained or self._windows_since_probe >= _WINDOWS_UNTIL_PROBE):
                self._windows_since_probe = 0
                self._before_probe = self.limit
                self._set(max(self.limit + 1, 1.125 * self.limit))  # an eighth of less than 8 is no request more
            self._best_throughput = max(self._best_throughput * 0.98, throughput)  # what once was fades
        self._begin_window()

    def _begin_window(self) -> None:
        self._window_began = time.monotonic()
        self._window_size = max(1, int(self.limit))
        self._window_successes = 0
        self._window_amount = 0
        self._window_was_full = False

    def _set(self, limit: float) -> None:
        self.limit = min(max(limit, 1.0), float(self.most))
        self._wake()


class MinuteLimit:
    """At most so many units begin in any 60 seconds."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._recent: deque[tuple[float, int]] = deque()
        self._used = 0
        self._turn = asyncio.Lock()

    async def take(self, units: int) -> None:
        """Wait until ``units`` more fit; something larger than the limit waits until nothing else is left."""
        if self.most is None:
            return
        async with self._turn:
            while (wait := self._wait(units)) > 0:
                await asyncio.sleep(wait)
            self._recent.append((time.monotonic(), units))
            self._used += units

    def _wait(self, units: int) -> float:
        now = time.monotonic()
        while self._recent and self._recent[0][0] <= now - _MINUTE:
            self._used -= self._recent.popleft()[1]
        assert self.most is not None
        if not self._recent or self._used + units <= self.most:
            return 0.0
        return self._recent[0][0] + _MINUTE - now
