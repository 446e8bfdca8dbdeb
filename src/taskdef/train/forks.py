"""Pairs of steps from the same state: the pit's step beside others that the policy takes there.

The rollouts from the state before a pit are further responses of the policy, and their first steps further draws of its
next step. The first different ones are rolled out in their turn; one that ends its response needs none. A state with
the steps that were found there is a fork.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from taskdef.config import StepwiseConfig
from taskdef.policy.attempts import Problem
from taskdef.policy.protocol import PrefixPolicy
from taskdef.records import Verdict
from taskdef.train.dpo import Pair
from taskdef.train.pits import cut_at_pit, without_stop
from taskdef.train.q_values import StepValues, best_of_k
from taskdef.train.rollouts import Prefix, PrefixRollouts, RolloutRounds
from taskdef.train.steps import Step, first_step_after

Split = Callable[[Sequence[int]], list[Step]]
"""Cuts a response into steps."""


@dataclass(frozen=True)
class Alternative:
    """A step that the policy took where another response has its pit."""

    ids: tuple[int, ...]
    """Without a stop token."""
    q: float | None
    """1 or 0, by its verdict, where the step ends its response; None where rollouts have to tell."""


@dataclass(frozen=True)
class Fork:
    """A state with a pit's step and other steps; all that is needed for pairs."""

    state_ids: tuple[int, ...]
    """The prompt's tokens and those before the pit."""
    pit_step: tuple[int, ...]
    pit_q: float
    others: Mapping[tuple[int, ...], float]
    """Other steps and their Q."""


def find_forks(
    policy: PrefixPolicy,
    problems: Sequence[Problem],
    found: Sequence[StepValues],
    rounds: RolloutRounds,
    settings: StepwiseConfig,
    split: Split,
) -> list[Fork]:
    """A fork for each response in ``found``, in order; all of these have a pit."""
    problem_of = {problem.id: problem for problem in problems}
    cuts = [cut_at_pit(values, policy.stop_ids) for values in found]
    states = [Prefix(problem_of[values.problem_id], before) for values, (before, _, _) in zip(found, cuts, strict=True)]
    # no new rollouts: those from before a pit told that something could be lost there
    groups = [
        alternatives(rollouts, pit_step, settings.alternatives, split, policy.stop_ids)
        for rollouts, (_, pit_step, _) in zip(rounds.make(states, ", pits"), cuts, strict=True)
    ]
    asked = [
        _after(state, each) for state, group in zip(states, groups, strict=True) for each in group if each.q is None
    ]
    q_of = {
        prefix.key: best_of_k(rollouts.judged, rollouts.correct, settings.best_of)
        for prefix, rollouts in zip(asked, rounds.make(asked, ", other steps"), strict=True)
        if rollouts.judged >= settings.best_of
    }
    forks = []
    for (_, pit_step, pit_q), state, group in zip(cuts, states, groups, strict=True):
        q = {each.ids: q_of.get(_after(state, each).key) if each.q is None else each.q for each in group}
        prompt = policy.prompt_ids(state.problem.input)
        judged = {ids: value for ids, value in q.items() if value is not None}
        forks.append(Fork((*prompt, *state.ids), pit_step, pit_q, judged))
    return forks


def pairs_of(fork: Fork, prefer: Literal["better", "sampled"], draw: random.Random) -> list[Pair]:
    """``better``: the step of highest Q is chosen beside the pit's, one pair at most, none where its Q is not higher.
    ``sampled``: a pair for each other step, and a draw by the difference of Q says which side is chosen."""
    pit, others = fork.pit_step, fork.others
    if prefer == "better":
        best = max(others, key=lambda ids: others[ids], default=None)
        return [] if best is None or others[best] <= fork.pit_q else [Pair(fork.state_ids, best, pit)]
    return [
        Pair(fork.state_ids, ids, pit)
        if draw.random() < chance_preferred(q, fork.pit_q)
        else Pair(fork.state_ids, pit, ids)
        for ids, q in others.items()
    ]


def chance_preferred(q: float, other_q: float) -> float:
    """Chance that a step of value ``q`` is the chosen one beside another from the same state: sigma(A_a - A_b)."""
    return 1 / (1 + math.exp(other_q - q))


def alternatives(
    rollouts: PrefixRollouts, pit_step: tuple[int, ...], most: int, split: Split, stop_ids: frozenset[int]
) -> list[Alternative]:
    """The first different steps that rollouts take from their prefix, but for the pit's own."""
    place = len(rollouts.prefix)
    found: dict[tuple[int, ...], Alternative] = {}
    for rollout in rollouts.rollouts:
        whole = (*rollouts.prefix, *rollout.ids)
        steps = split(whole)
        if rollout.verdict is Verdict.VERIFIER_ERROR or not steps:
            continue
        end = first_step_after(steps, place).end
        over = end == len(whole)
        if over and whole[-1] not in stop_ids:  # cut by the token limit: who knows what the step was to be
            continue
        ids = without_stop(whole[place:end], stop_ids)
        if ids and ids != pit_step and ids not in found:
            found[ids] = Alternative(ids, float(rollout.verdict is Verdict.CORRECT) if over else None)
        if len(found) == most:
            break
    return list(found.values())


def _after(state: Prefix, alternative: Alternative) -> Prefix:
    return Prefix(state.problem, (*state.ids, *alternative.ids))
