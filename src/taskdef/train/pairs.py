"""Pairs of a correct and an incorrect attempt on the same sample: what DPO on whole responses learns from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice

from taskdef.config import DpoConfig
from taskdef.records import Attempt, Record, Sample, Verdict
from taskdef.train.solutions import is_whole


class AttemptPair(Record):
    """Two attempts on one sample, as texts; both ended by themselves."""

    sample_id: str
    chosen: str
    rejected: str
    own_chosen: bool
    """Whether the chosen side is an attempt; else it is the sample's verified solution."""


def pair_attempts(
    sample: Sample, attempts: Sequence[Attempt], settings: DpoConfig, *, max_new_tokens: int, seed: int
) -> tuple[list[AttemptPair], Counter[str]]:
    """At most ``settings.pairs`` pairs of one sample, no two with the same rejected side; and what was left out.

    Rejected are different wrong attempts in random order, those without an answer included; chosen are the different
    correct ones, in turn. Attempts that reached the token limit are on neither side: they are cut, not finished, and
    attempts whose verdict is missing say nothing.
    """
    whole = [attempt for attempt in attempts if is_whole(attempt, max_new_tokens)]
    correct = list(dict.fromkeys(one.text for one in whole if one.verdict is Verdict.CORRECT))
    wrong = list(dict.fromkeys(one.text for one in whole if one.verdict in (Verdict.WRONG, Verdict.NO_ANSWER)))
    left_out = Counter(
        attempts_cut=len(attempts) - len(whole),
        attempts_unjudged=sum(one.verdict is Verdict.VERIFIER_ERROR for one in whole),
    )
    own = bool(correct)
    if not own and settings.verified_chosen:
        correct = [sample.solution]
    if not wrong or not correct:
        left_out["samples_never_wrong" if not wrong else "samples_never_solved"] += 1
        return [], left_out
    rejected = random.Random(f"{seed} {sample.id}").sample(wrong, len(wrong))
    pairs = [
        AttemptPair(sample_id=sample.id, chosen=better, rejected=worse, own_chosen=own)
        for better, worse in zip(cycle(correct), islice(rejected, settings.pairs), strict=False)
    ]
    return pairs, left_out
