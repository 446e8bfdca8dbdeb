"""The vote: which answer most outputs agree on (paper section 3.1, verification)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """What a vote came to."""

    answer: str | None
    """The single most frequent answer, as its first voter wrote it; None without one."""
    votes: int
    """Votes for the most frequent answer (for each of them where they tie)."""
    vote_count: int
    """Votes that held a readable answer."""
    winners: tuple[int, ...]
    """Indices of the outputs that gave the winning answer; empty without one."""


def tally_answers(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> Tally:
    """Group equal answers and find the most frequent; None entries did not vote. A tie for first has no winner.

    With a tolerance, equality is not transitive (1.0 = 1.1 = 1.2 but 1.0 ≠ 1.2): an answer joins the first group
    whose first member it equals, so a group never drifts from where it started.
    """
    groups: list[tuple[str, list[int]]] = []
    for index, answer in enumerate(answers):
        if answer is None:
            continue
        for first, members in groups:
            if answer == first or same(first, answer):
                members.append(index)
                break
        else:
            groups.append((answer, [index]))
    vote_count = sum(len(members) for _, members in groups)
    if not groups:
        return Tally(None, 0, 0, ())
    ranked = sorted(groups, key=lambda group: len(group[1]), reverse=True)
    answer, members = ranked[0]
    if len(ranked) > 1 and len(ranked[1][1]) == len(members):
        return Tally(None, len(members), vote_count, ())
    return Tally(answer, len(members), vote_count, tuple(members))
