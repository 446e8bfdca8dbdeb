r"""Q of the prefixes of a wrong response, and the advantage of each of its steps (arXiv 2406.14532).

Q of a prefix is the chance that the best of K continuations by the SFT model solves the problem. With q the chance of
one continuation it is 1 - (1 - q)^K; from c correct ones of n independent rollouts

    Q = 1 - C(n - c, K) / C(n, K)

estimates it without bias (putting c/n for q would not: at n = K = 5, q = 0.2 that averages 0.52 instead of 0.67).
What follows a step is fixed by the step alone, so the value of a state is the Q of the step that led to it, and

    A_i = Q_i - Q_(i-1),   Q_0 = V(x),   sum of A_i = Q_last - V(x).

What is not rolled out:

- the whole response: it is over and wrong, so its Q is 0;
- the start: V(x) comes from the rollouts among which the wrong response was found, itself left out (the others know
  nothing of it, so the estimate stays unbiased);
- prefixes equal to one already rolled out (``rollouts.RolloutRounds``);
- what follows a prefix from which no rollout is correct. Its Q is taken as 0 and with it, since nothing that begins
  with it is ever correct, the Q of every longer prefix. The first holds up to chance: a prefix whose rollouts succeed
  with chance q is taken so with (1 - q)^n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb

from taskdef.policy.attempts import Problem
from taskdef.records import Record
from taskdef.train.rollouts import Prefix, PrefixRollouts, RolloutRounds


@dataclass(frozen=True)
class WrongResponse:
    """A finished response whose answer is wrong, cut into steps."""

    problem: Problem
    ids: tuple[int, ...]
    ends: tuple[int, ...]
    """Number of tokens up to the end of each step; the last is the whole response."""
    start_value: float
    """V(x), without this response."""


class StepValues(Record):
    """Q and A along one wrong response of S steps."""

    problem_id: str
    ids: tuple[int, ...]
    ends: tuple[int, ...]
    """Number of tokens up to the end of each step, shape S."""
    values: tuple[float, ...]
    """V(x), then Q after each step: shape S + 1."""
    rolled_out: int
    """How many of these Q come from rollouts of their own; those after them follow."""
    pit: int | None = None
    """Number of the step that is the pit, counted from 0; None where nothing was lost."""

    @property
    def advantages(self) -> tuple[float, ...]:
        """A of each step, shape S."""
        return advantages(self.values)


def best_of_k(rollouts: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that one of ``k`` continuations is correct.

    Raises ValueError where there are fewer rollouts than ``k``, or more correct ones than rollouts.
    """
    if not 0 <= correct <= rollouts or not 1 <= k <= rollouts:
        raise ValueError(f"{correct} correct of {rollouts} rollouts say nothing about the best of {k}")
    return 1 - comb(rollouts - correct, k) / comb(rollouts, k)


def advantages(values: Sequence[float]) -> tuple[float, ...]:
    """Differences of neighbouring values; one fewer than there are values."""
    return tuple(after - before for before, after in pairwise(values))


def start_value(rollouts: PrefixRollouts, k: int) -> float | None:
    """V(x) from the rollouts of the empty prefix, one wrong one left out; None where too few are judged."""
    others = rollouts.judged - 1
    return best_of_k(others, rollouts.correct, k) if others >= max(k, rollouts.correct) else None


def step_values(responses: Sequence[WrongResponse], rounds: RolloutRounds, k: int) -> list[StepValues | None]:
    """Q along each response, in order, step by step for all of them at once.

    None for a response that has a prefix with fewer than ``k`` judged rollouts (verifier errors took the others).
    """
    values = [[response.start_value] for response in responses]
    unjudged: set[int] = set()
    longest = max((len(response.ends) for response in responses), default=0)
    for number in range(1, longest):  # the last step of each response ends it
        places = [
            place
            for place, response in enumerate(responses)
            # a value of 0 settles what follows
            if number < len(response.ends) and place not in unjudged and values[place][-1] > 0
        ]
        if not places:
            break
        prefixes = [
            Prefix(responses[place].problem, responses[place].ids[: responses[place].ends[number - 1]])
            for place in places
        ]
        for place, made in zip(places, rounds.make(prefixes, f", step {number}"), strict=True):
            if made.judged < k:
                unjudged.add(place)
            else:
                values[place].append(best_of_k(made.judged, made.correct, k))
    return [
        None if place in unjudged else _finished(response, values[place]) for place, response in enumerate(responses)
    ]


def _finished(response: WrongResponse, known: list[float]) -> StepValues:
    return StepValues(
        problem_id=response.problem.id,
        ids=response.ids,
        ends=response.ends,
        values=(*known, *[0.0] * (len(response.ends) + 1 - len(known))),
        rolled_out=len(known) - 1,
    )
