"""Pairs for per-step DPO, from the policy's own responses: sample, find the pits, choose the other sides.

1. ``rollouts`` responses to every problem: the wrong and the correct ones, and V(x).
2. Q after each step of the first different wrong responses (``q_values``), and from it the pit (``pits``).
3. ``pairs: response``: the next of the correct responses is the chosen side. ``pairs: step``: the first steps of the
   rollouts made from the state before the pit are further draws from the policy there; the first different ones are
   rolled out too (``forks``).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from taskdef.config import StepwiseConfig
from taskdef.policy.attempts import AttemptFile, Problem
from taskdef.policy.protocol import PrefixPolicy
from taskdef.progress import Progress
from taskdef.records import Record, Verdict
from taskdef.train.dpo import Pair
from taskdef.train.forks import Split, find_forks, pairs_of
from taskdef.train.pits import PitRule, cut_at_pit, find_pit, without_stop
from taskdef.train.q_values import StepValues, WrongResponse, start_value, step_values
from taskdef.train.rollouts import Prefix, PrefixRollouts, RolloutCounts, RolloutRounds
from taskdef.train.steps import LINES, SENTENCES, Step, split_steps
from taskdef.verify.isolated import Verifier

_GAPS = {"lines": LINES, "sentences": SENTENCES}


class StepPairCounts(Record):
    """What came to pairs, and why the rest did not."""

    never_solved: int
    """Problems without a correct rollout: no step of theirs can lose anything."""
    never_wrong: int
    """Problems whose rollouts hold no finished response that is wrong."""
    unjudged_samples: int
    """Problems with too few rollouts that could be judged."""
    wrong_responses: int
    """Different wrong responses of the other problems, as many as are looked into."""
    unjudged_responses: int
    """Of those: with a prefix that had too few rollouts that could be judged."""
    without_pit: int
    """Of those: nothing was lost at any step."""
    without_better_step: int
    """Of those: no other step at the pit was found to be better, or none was found at all."""
    pairs: int
    rollouts: RolloutCounts


@dataclass(frozen=True)
class StepPairs:
    """What ``collect_step_pairs`` found."""

    pairs: tuple[Pair, ...]
    values: tuple[StepValues, ...]
    """Q along every wrong response that was looked into, with its pit."""
    counts: StepPairCounts


def collect_step_pairs(
    policy: PrefixPolicy,
    problems: Sequence[Problem],
    settings: StepwiseConfig,
    *,
    seed: int,
    verifier: Verifier,
    progress: Progress,
    file: AttemptFile | None = None,
) -> StepPairs:
    """Pairs in the order of the problems. Rollouts are kept in ``file`` while they are made, and gone on with.

    Raises RunError where the rollouts on disk belong to something else, BaseModelError where the tokenizer's texts
    cannot be cut into steps.
    """
    rounds = RolloutRounds(
        policy,
        count=settings.rollouts,
        temperature=settings.temperature,
        seed=seed,
        label="rollouts",
        verifier=verifier,
        progress=progress,
        file=file,
    )

    def split(ids: Sequence[int]) -> list[Step]:
        # a stop token may have a text of its own; it makes no step of its own
        steps = split_steps(
            without_stop(tuple(ids), policy.stop_ids),
            lambda part: policy.as_completion(part).text,
            gap=_GAPS[settings.steps],
            most=settings.most_steps,
        )
        return [*steps[:-1], replace(steps[-1], end=len(ids))] if steps else []

    pools = rounds.make([Prefix(problem) for problem in problems], ", start")
    wrong: list[WrongResponse] = []
    without: Counter[str] = Counter()
    for problem, pool in zip(problems, pools, strict=True):
        start = start_value(pool, settings.best_of)
        found = wrong_responses(problem, pool, start, settings, split, policy.stop_ids) if start else []
        wrong += found
        if not pool.correct:
            without["correct"] += 1
        elif start is None and pool.judged > pool.correct:
            without["verdicts"] += 1
        elif not found:
            without["wrong"] += 1
    estimated = step_values(wrong, rounds, settings.best_of)
    rule = PitRule(settings.pit)
    judged = [each for each in estimated if each is not None]
    values = [each.model_copy(update={"pit": find_pit(each.values, rule)}) for each in judged]
    with_pit = [each for each in values if each.pit is not None]
    if settings.pairs == "step":
        draw = random.Random(seed)
        forks = find_forks(policy, problems, with_pit, rounds, settings, split)
        groups = [pairs_of(fork, settings.prefer, draw) for fork in forks]
    else:
        groups = pairs_of_responses(policy, problems, with_pit, pools)
    pairs = [pair for group in groups for pair in group]
    return StepPairs(
        pairs=tuple(pairs),
        values=tuple(values),
        counts=StepPairCounts(
            never_solved=without["correct"],
            never_wrong=without["wrong"],
            unjudged_samples=without["verdicts"],
            wrong_responses=len(wrong),
            unjudged_responses=len(estimated) - len(values),
            without_pit=len(values) - len(with_pit),
            without_better_step=groups.count([]),
            pairs=len(pairs),
            rollouts=rounds.finish(),
        ),
    )


def wrong_responses(
    problem: Problem,
    pool: PrefixRollouts,
    start: float,
    settings: StepwiseConfig,
    split: Split,
    stop_ids: frozenset[int],
) -> list[WrongResponse]:
    """The first different responses that ended by themselves, with a wrong answer or none, and that hold any text."""
    wrong = [rollout.ids for rollout in pool.rollouts if rollout.verdict in (Verdict.WRONG, Verdict.NO_ANSWER)]
    different = dict.fromkeys(ids for ids in wrong if ids and ids[-1] in stop_ids)
    cut = [(ids, split(ids)) for ids in different]
    found = [WrongResponse(problem, ids, tuple(step.end for step in steps), start) for ids, steps in cut if steps]
    return found[: settings.wrong_responses]


def pairs_of_responses(
    policy: PrefixPolicy, problems: Sequence[Problem], found: Sequence[StepValues], pools: Sequence[PrefixRollouts]
) -> list[list[Pair]]:
    """A pair for each response in ``found`` (all have a pit): its prefix through the pit beside the problem's correct
    responses in turn."""
    correct = {}
    for pool in pools:
        solved = dict.fromkeys(rollout.ids for rollout in pool.rollouts if rollout.verdict is Verdict.CORRECT)
        # one that the limit cut after its answer is taken where there is no other
        correct[pool.problem_id] = cycle([ids for ids in solved if ids and ids[-1] in policy.stop_ids] or solved)
    prompts = {problem.id: tuple(policy.prompt_ids(problem.input)) for problem in problems}
    pairs = []
    for values in found:
        before, step, _ = cut_at_pit(values, policy.stop_ids)
        pairs.append([Pair(prompts[values.problem_id], next(correct[values.problem_id]), (*before, *step))])
    return pairs
