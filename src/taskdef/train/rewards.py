"""Reward = the verifier's verdict, plus a small part for an answer that is wrong but can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskdef.records import Verdict
from taskdef.verify.isolated import Verifier


class VerdictReward:
    """TRL's reward protocol over the isolated verifier.

    1 for CORRECT, ``format_reward`` for WRONG, 0 for NO_ANSWER and TRUNCATED; None for VERIFIER_ERROR, which TRL
    leaves out of its group's mean and gives no advantage.
    """

    __name__ = "verdict"

    def __init__(
        self, gold: Mapping[str, str], *, format_reward: float, verifier: Verifier, stop_ids: frozenset[int]
    ) -> None:
        self.gold = gold
        """The label of every training input."""
        self.format_reward = format_reward
        self.verifier = verifier
        self.stop_ids = stop_ids

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        **_rest: Any,
    ) -> list[float | None]:
        judgements = self.verifier.judge(
            [
                (completion, self.gold[prompt], not ids or ids[-1] not in self.stop_ids)
                for prompt, completion, ids in zip(prompts, completions, completion_ids, strict=True)
            ]
        )
        return [self.value(judgement.verdict) for judgement in judgements]

    def value(self, verdict: Verdict) -> float | None:
        """The reward of one verdict."""
        if verdict is Verdict.VERIFIER_ERROR:
            return None
        return {Verdict.CORRECT: 1.0, Verdict.WRONG: self.format_reward}.get(verdict, 0.0)
