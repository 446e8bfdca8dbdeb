"""How many of the passages are of any use: a random sample of them, graded, with an interval.

What is sampled are the passages that the first round of drafts is written from, and a grader sees as much of a passage
as the instructor does when it writes. A share of few grades is rough, so the interval decides what is said.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskdef.instruct.protocol import Instructor
from taskdef.progress import Progress
from taskdef.records import Grade, Passage, Relevance, TaskDefinition

BY_HAND = "a person"
"""The grader's name where somebody at the terminal grades."""
POOR_BELOW = 0.5
"""Share of usable passages under which most drafts are written from something else than the task's subject."""


@dataclass(frozen=True)
class Audit:
    """What the grades of one grader come to."""

    grader: str
    among: int
    """Passages that the sample was drawn from."""
    counts: dict[Relevance, int]
    ungraded: int
    """Passages for which no grade could be had or read: missing, in no share."""
    low: float | None = None
    high: float | None = None
    """Wilson's 95% interval of the usable share; None where nothing was graded."""

    @property
    def graded(self) -> int:
        return sum(self.counts.values())

    @property
    def usable(self) -> int:
        """Relevant, or partly so."""
        return self.graded - self.counts[Relevance.IRRELEVANT]

    @property
    def share(self) -> float | None:
        """The usable share of the graded passages."""
        return self.usable / self.graded if self.graded else None

    @property
    def is_poor(self) -> bool:
        """Surely less than half of the passages are usable."""
        return self.high is not None and self.high < POOR_BELOW

    @property
    def may_be_poor(self) -> bool:
        """Half or less is within the interval."""
        return self.low is not None and self.low < POOR_BELOW and not self.is_poor

    def to_json(self) -> dict[str, Any]:
        """The content of audit.json."""
        return {
            "grader": self.grader,
            "among": self.among,
            "counts": {relevance.value: count for relevance, count in self.counts.items()},
            "ungraded": self.ungraded,
            "usable": {"share": self.share, "low": self.low, "high": self.high},
            "poor": self.is_poor,
        }


def choose_passages(passages: Sequence[Passage], count: int, seed: int, characters: int) -> list[Passage]:
    """A random sample, cut to ``characters``; a larger ``count`` gives the same ones and more."""
    order = list(passages)
    random.Random(f"{seed}/audit").shuffle(order)
    return [passage.model_copy(update={"text": passage.text[:characters]}) for passage in order[:count]]


async def grade_passages(
    definition: TaskDefinition, passages: Sequence[Passage], *, instructor: Instructor, progress: Progress
) -> list[Relevance | None]:
    """Have the instructor grade them all, in order. Raises InstructorError where it cannot be used."""

    async def grade(passage: Passage) -> Relevance | None:
        relevance = await instructor.grade(definition, passage)
        progress.advance()
        return relevance

    progress.start("grades", total=len(passages))
    grades = await asyncio.gather(*map(grade, passages))
    progress.finish()
    return list(grades)


def sum_up(grades: Sequence[Grade], grader: str, among: int) -> Audit:
    """Count the grades of one grader, a passage's last; the interval is the caller's to add."""
    own = list({grade.passage_id: grade.relevance for grade in grades if grade.grader == grader}.values())
    counts = {relevance: own.count(relevance) for relevance in Relevance}
    return Audit(grader, among, counts, own.count(None))


def audit_lines(audit: Audit, run: str) -> list[str]:
    """What a person is told, with what to do where the library is poor. ``run``: the run's path as a shell takes it."""
    lines = [
        f"{audit.graded} of {audit.among} passages graded by {audit.grader}: "
        + ", ".join(f"{count} {relevance.value}" for relevance, count in audit.counts.items())
        + (f"; {audit.ungraded} more without a grade that could be read" if audit.ungraded else "")
    ]
    if audit.share is None or audit.low is None or audit.high is None:
        return [*lines, "no grade, so nothing can be said about the library"]
    lines.append(f"usable (relevant or partly): {audit.share:.0%}, 95% interval {audit.low:.0%} to {audit.high:.0%}")
    if audit.is_poor:
        lines += [
            "warning: most drafts would be written from passages that do not serve the task. Before spending more:",
            f"  see what was searched for, and what was found: {run}/1-retrieve/",
            "  a new run with a library about the task's subject: --passages PATH",
            "  or without passages, and compare: --set retrieve.method=none",
        ]
    elif audit.may_be_poor:
        how = f"to know better: {_more(audit, run)}" if audit.graded < audit.among else "all of them are graded"
        lines.append(f"it is not sure that half of them are usable; {how}")
    return lines


def _more(audit: Audit, run: str) -> str:
    by_hand = " --by-hand" if audit.grader == BY_HAND else ""
    return f"taskdef retrieve {run} --audit{by_hand} --grades {min(4 * audit.graded, audit.among)}"
