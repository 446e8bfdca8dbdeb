"""What is spent, and about how much it will be in all, on the progress line of a stage that asks the instructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from taskdef.config import RunConfig
from taskdef.instruct.meter import Meter
from taskdef.instruct.writing import LAST_STEPS, WRITING
from taskdef.progress import Progress


class DraftTally(Protocol):
    """How many drafts of synthesize were decided, and how many became samples."""

    samples: int

    @property
    def drafts(self) -> int: ...


Outlook = Callable[[float], tuple[float, float]]
"""From the share of drafts that are put to the vote to (drafts or rewrites in this stage, those in later stages)."""


class LiveProjection:
    """A Progress that adds the money to each step's note: ``0.42 usd, about 3.10 in all``.

    Tokens where no price is known, calls where the endpoint does not count tokens. What is to come is counted in
    drafts written (by all the calls that go into one) and votes, each at its mean so far:

        total = spent + (units - written) w + (units q - voted) v + later (w + q v)

    with q the share of drafts that reach the vote. Means of each kind, and not of decided drafts, since many drafts
    are written and paid for before the first is decided.
    """

    def __init__(self, progress: Progress, meter: Meter, outlook: Outlook | None = None) -> None:
        """``outlook``: None where the stage's units are those that ``start`` announces, and no later stage asks."""
        self._progress = progress
        self._meter = meter
        self._outlook = outlook
        self._announced = self._decided = 0

    def start(self, label: str, total: int, done: int = 0) -> None:
        self._announced += total
        self._progress.start(label, total, done)

    def advance(self, units: int = 1, note: str = "") -> None:
        self._decided += units
        self._progress.advance(units, ", ".join(filter(None, (note, self.note()))))

    def finish(self) -> None:
        self._progress.finish()

    def line(self, text: str) -> None:
        self._progress.line(text)

    def note(self) -> str:
        """What is spent and what it may come to; empty before anything is."""
        meter = self._meter
        spent, votes = meter.spent, meter.work["answer"]
        writing, drafted = meter.total(*WRITING), meter.total(*LAST_STEPS).done
        before_the_vote = max(0, self._decided - votes.done)
        voted = votes.begun / max(1, votes.begun + before_the_vote)
        units, later = self._outlook(voted) if self._outlook else (float(self._announced), 0.0)
        units = max(units, float(self._announced))
        written = max(0.0, units - drafted) + later
        put_to_vote = max(0.0, units * voted - votes.done) + later * voted

        def to_come(of_writing: float, of_votes: float) -> float:
            return written * of_writing / max(1, drafted) + put_to_vote * of_votes / max(1, votes.done)

        if meter.is_priced and writing.cost + votes.cost:
            return _note(spent.usd, spent.usd + to_come(writing.cost, votes.cost), _dollars, " usd")
        if writing.read:
            total = spent.tokens + to_come(writing.read + writing.written, votes.read + votes.written)
            return _note(spent.tokens, total, short_count, " tokens")
        return _note(spent.calls, spent.calls + to_come(writing.calls, votes.calls), short_count, " calls")


def with_spending(progress: Progress, meter: Meter | None, outlook: Outlook | None = None) -> Progress:
    """``progress`` with spending in its notes; as it is where the instructor costs nothing."""
    return progress if meter is None else LiveProjection(progress, meter, outlook)


def synthesis_outlook(config: RunConfig, tally: DraftTally) -> Outlook:
    """Drafts of synthesize until there are samples enough, and the rewrites of adapt."""

    def outlook(voted: float) -> tuple[float, float]:
        settings = config.synthesize
        kept = max(tally.samples, 0.5) / tally.drafts if tally.drafts else max(voted, 0.01)
        most = settings.max_draft_factor * settings.samples
        drafts = min(most, settings.samples / kept)
        return drafts, min(settings.samples, drafts * kept) if config.adapt.enabled else 0.0

    return outlook


def short_count(value: float) -> str:
    """``812``, ``12.3k``, ``1.2M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{letter}" if value < 100 * size else f"{value / size:.0f}{letter}"
    return f"{value:.0f}"


def _dollars(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.2g}"


def _note(spent: float, total: float, shown: Callable[[float], str], unit: str) -> str:
    if not spent:
        return ""
    return f"{shown(spent)}{unit}, about {shown(total)} in all"
