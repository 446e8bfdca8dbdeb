"""What a ledger comes to, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taskdef.instruct.budget import Amount


@dataclass(frozen=True)
class PurposeTotals:
    """What the responses of one purpose come to."""

    purpose: str
    responses: int
    from_cache: float
    """Those of them that another run had paid for."""
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: float
    """US dollars that this run paid, as far as prices are known."""
    unpriced: float
    """Responses that it paid for at an unknown price."""
    seconds: float
    """Mean latency."""

    def cost_text(self) -> str:
        """``0.4200``, ``unknown``, or what is known and how many are not; empty where other runs paid for all."""
        paid = self.responses - self.from_cache
        if self.unpriced:
            return "unknown" if self.unpriced == paid else f"{self.cost:.4f} and {self.unpriced:,.0f} unknown"
        return f"{self.cost:.4f}" if paid else ""


@dataclass(frozen=True)
class LedgerTotals:
    """What everything in a ledger comes to, earlier processes' requests included."""

    requests: int = 0
    """Requests sent."""
    failed_tries: int = 0
    """Those without a response."""
    lost: int = 0
    """Those in flight when a process ended: the server may have billed them."""
    in_batches: int = 0
    """Those in batches whose answers are still to come."""
    responses: int = 0
    """Responses paid for in this run."""
    from_cache: int = 0
    """Responses that another run had paid for."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """US dollars, as far as prices are known."""
    unpriced: int = 0
    """Answered requests whose cost is unknown."""
    counted: Amount = field(default_factory=Amount)
    """What a cap counts: the above, and the most that answers which were lost may have cost."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """How often each fault was met."""

    @property
    def calls(self) -> int:
        """Requests that were answered."""
        return self.requests - self.failed_tries - self.lost - self.in_batches

    def cost_text(self) -> str:
        """``0.4200 usd``; says what is unknown, and what answers that were lost may have cost besides."""
        if not self.requests:
            return "nothing paid"
        unknown_and_lost = not self.calls and self.counted.tokens and not self.counted.usd
        if unknown_and_lost or (self.calls and self.unpriced == self.calls):
            return "cost unknown: no price for this model"
        parts = [f"{self.cost:.4f} usd"]
        parts += [f"{self.unpriced:,} calls of unknown cost"] if self.unpriced else []
        more = self.counted.usd - self.cost
        why = "in batches or lost" if self.in_batches else "that were lost"
        parts += [f"up to {more:.4f} more for answers {why}"] if more > 5e-5 else []
        return parts[0] + (f" ({', '.join(parts[1:])})" if parts[1:] else "")

    def __str__(self) -> str:
        """On one line: ``812 instructor calls, 3 failed tries, 120,000 tokens read, 31,000 written, 0.4200 usd``."""
        parts = [f"{self.calls:,} instructor calls"]
        parts += [f"{self.failed_tries:,} failed tries"] if self.failed_tries else []
        parts += [f"{self.lost:,} lost in flight"] if self.lost else []
        parts += [f"{self.in_batches:,} in batches whose answers are still to come"] if self.in_batches else []
        parts += [f"{self.from_cache:,} answers from other runs"] if self.from_cache else []
        parts += [f"{self.prompt_tokens:,} tokens read", f"{self.completion_tokens:,} written", self.cost_text()]
        return ", ".join(parts)
