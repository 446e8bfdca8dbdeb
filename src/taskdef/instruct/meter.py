"""What a stage's instructor calls come to while they are made, kept in memory: sums and spreads, never the responses.

The ledger knows the same and more, but a progress line asks after every draft, and a query over all calls each time
would grow with the run. Answers that were on record already count here too: they say what such a call takes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from taskdef.instruct.budget import Amount, Budget
from taskdef.instruct.chat import ChatResponse, Usage
from taskdef.instruct.prices import Prices


@dataclass
class Spread:
    """Mean and squared deviations of the logarithms of positive figures (Welford's recurrence: flat memory)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared deviations from the mean."""

    def add(self, value: float) -> None:
        """Figures of 0 are left out: they stand for an endpoint that does not count."""
        if value <= 0:
            return
        self.count += 1
        step = math.log(value) - self.mean
        self.mean += step / self.count
        self.squares += step * (math.log(value) - self.mean)


@dataclass
class Work:
    """What requests of one purpose came to. A unit is one request for one or several responses, such as all votes on
    one input."""

    begun: int = 0
    done: int = 0
    """Units that came back, also those that brought fewer responses than were asked for."""
    responses: int = 0
    calls: int = 0
    """Exchanges with the endpoint that the responses took."""
    read: int = 0
    """Tokens of prompts, over all calls."""
    cached: int = 0
    """Those of ``read`` that the endpoint had in its cache."""
    written: int = 0
    cost: float = 0.0
    unpriced: int = 0
    """Responses of unknown cost."""
    seconds: float = 0.0
    """Latencies of all calls, one after the other."""
    read_each: Spread = field(default_factory=Spread)
    """Tokens read for one unit."""
    written_each: Spread = field(default_factory=Spread)


class Meter:
    """Counts by purpose, and what the caps count so far."""

    def __init__(self, budget: Budget, prices: Prices) -> None:
        self.work: defaultdict[str, Work] = defaultdict(Work)
        self._budget = budget
        self._prices = prices

    @property
    def is_priced(self) -> bool:
        """Whether calls have a known price."""
        return self._prices.known

    @property
    def spent(self) -> Amount:
        """What the whole run has come to as a cap counts it, earlier processes and stages included."""
        return self._budget.spent

    def price(self, read: float, written: float, cached: float = 0.0) -> float | None:
        """US dollars for so many tokens; None where the price is not known."""
        return self._prices.cost(Usage(round(read), round(written), round(cached)))

    def began(self, purpose: str) -> None:
        """A unit was begun."""
        self.work[purpose].begun += 1

    def ended(self, purpose: str, responses: Sequence[ChatResponse], takes_count: bool) -> None:
        """A unit came back. ``takes_count``: whether the endpoint gives several responses to one call."""
        work = self.work[purpose]
        work.done += 1
        # The prompt's tokens stand with the first response of a call.
        heads = [response for response in responses if response.prompt_tokens]
        calls = heads or list(responses[:1] if takes_count else responses)
        read = sum(response.prompt_tokens for response in responses)
        written = sum(response.completion_tokens for response in responses)
        work.responses += len(responses)
        work.calls += len(calls)
        work.read += read
        work.cached += sum(response.cached_tokens for response in responses)
        work.written += written
        work.cost += sum(response.cost or 0.0 for response in responses)
        work.unpriced += sum(response.cost is None for response in responses)
        work.seconds += sum(response.seconds for response in calls)
        work.read_each.add(read)
        work.written_each.add(written)

    def total(self, *purposes: str) -> Work:
        """The sums over some purposes (all where none is named); spreads stay with their purposes."""
        total = Work()
        for purpose, work in self.work.items():
            if not purposes or purpose in purposes:
                for name in ("begun", "done", "responses", "calls", "read", "cached", "written", "unpriced"):
                    setattr(total, name, getattr(total, name) + getattr(work, name))
                total.cost += work.cost
                total.seconds += work.seconds
        return total
