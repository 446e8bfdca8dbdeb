"""A cap that holds: what a request may cost at most is set aside before it is sent.

What was set aside is given back when the endpoint has said what was used. A request whose answer was lost keeps all
of it: the server may have billed it. So spending plus what is set aside never passes the cap, and neither does what
the server counts, as long as it keeps to ``max_tokens``.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from taskdef.errors import BudgetReached, ConfigError

_PART = re.compile(
    r"(?P<number>\d[\d_]{0,29}(?:\.\d{1,30})?|\.\d{1,30})\s*(?P<scale>[kM]?)\s*(?P<unit>usd|USD|tokens?|calls?)",
    re.ASCII,
)
_SCALES = {"": 1, "k": 1_000, "M": 1_000_000}
_FORMS = "5usd, 2Mtokens, 500calls, or several of these with commas between"
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Amount:
    """Money, tokens and requests, of one request or of many."""

    usd: float = 0.0
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.usd + other.usd, self.tokens + other.tokens, self.calls + other.calls)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.usd - other.usd, self.tokens - other.tokens, self.calls - other.calls)


@dataclass(frozen=True)
class Caps:
    """The most that may be spent; None where there is no cap."""

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None

    def allow(self, amount: Amount) -> bool:
        return (
            (self.usd is None or amount.usd <= self.usd + _ROUNDING)
            and (self.tokens is None or amount.tokens <= self.tokens)
            and (self.calls is None or amount.calls <= self.calls)
        )

    def __str__(self) -> str:
        parts = [
            "" if self.usd is None else f"{self.usd:g} usd",
            "" if self.tokens is None else f"{self.tokens:,} tokens",
            "" if self.calls is None else f"{self.calls:,} calls",
        ]
        return " and ".join(part for part in parts if part)


def parse_caps(text: str | None) -> Caps:
    """``"5usd"``, ``"2Mtokens"``, ``"500calls"`` or several with commas between; None is no cap.

    Raises ConfigError, also for an empty text: ``--budget "$BUDGET"`` with a variable that is not set wants a cap.
    """
    found: dict[str, float] = {}
    for part in [] if text is None else text.split(","):
        match = _PART.fullmatch(part.strip())
        unit = match["unit"].rstrip("s").lower() if match else ""
        if match is None or unit in found:
            at = f" at {part.strip()!r}" if part.strip() != text else ""
            raise ConfigError(f"budget: {text!r} cannot be read{at}", next_step=f"give {_FORMS}")
        amount = float(match["number"].replace("_", "")) * _SCALES[match["scale"]]
        if unit != "usd" and not amount.is_integer():
            raise ConfigError(f"budget: {part.strip()!r} is no whole number of {unit}s", next_step=f"give {_FORMS}")
        found[unit] = amount
    return Caps(
        usd=found.get("usd"),
        tokens=int(found["token"]) if "token" in found else None,
        calls=int(found["call"]) if "call" in found else None,
    )


class Budget:
    """What is spent and set aside, against the caps. One event loop at a time."""

    def __init__(self, caps: Caps, spent: Amount, aside: Amount = Amount()) -> None:
        """``spent``: what earlier processes spent, and what may have been billed for answers they lost; ``aside``: what
        they set aside for requests whose answers are still to come."""
        self.caps = caps
        self.spent = spent
        self._aside = aside
        self._waiting: list[asyncio.Future[None]] = []

    async def set_aside(self, most: Amount) -> None:
        """Set ``most`` aside, if need be when requests in flight have given back what they did not use.

        Raises BudgetReached where it does not fit and nothing in flight can give anything back.
        """
        while not self.caps.allow(self.spent + self._aside + most):
            if not self._aside.calls:
                raise BudgetReached(self._reached(most), next_step="repeat the command with a higher --budget")
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self._aside += most

    def settle(self, most: Amount, used: Amount) -> None:
        """Give back what was set aside, and count what was used."""
        self._aside -= most
        self.spent += used
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _reached(self, most: Amount) -> str:
        spent = [f"{self.spent.tokens:,} tokens in {self.spent.calls:,} calls"]
        wanted = [f"{most.tokens:,} tokens"]
        if self.caps.usd is not None:
            spent.insert(0, f"{self.spent.usd:.4g} usd")
            wanted.insert(0, f"{most.usd:.2g} usd")
        return (
            f"the budget of {self.caps} is used up: {', '.join(spent)} so far, and the next call may take "
            f"{', '.join(wanted)}"
        )
