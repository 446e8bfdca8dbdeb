"""What went wrong in training, by its log: plain sentences, each with a remedy. Thresholds are rules of thumb."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from taskdef.report.gather import Artifacts, figures
from taskdef.report.text import number, percent

WINDOW = 10
"""Steps that the beginning and the end of training are averaged over, or a third of them where there are fewer."""
ZERO_SIGNAL_LIMIT = 0.9
TRUNCATED_LIMIT = 0.2
ENTROPY_LIMIT = 0.1
"""Share of the first steps' entropy below which the policy counts as collapsed."""
KL_LIMIT = 1.0
"""Nats a token; useful runs stay one or two orders of magnitude below."""
CHOSEN_LIMIT = -1.0
"""Nats that the chosen completions' log-probability may lose: 1 is a likelihood of a third."""
EXPLAINED_LIMIT = -0.05
"""Explained variance of values that are worse than a constant; around 0 it is chance on which side."""


@dataclass(frozen=True)
class Diagnosis:
    """One finding about the run."""

    kind: Literal["problem", "note"]
    """A problem puts the result in doubt; a note is worth knowing."""
    sentence: str
    remedy: str


def of_training(artifacts: Artifacts) -> list[Diagnosis]:
    """Every known failure pattern that the log of training shows."""
    log, train = artifacts.log, artifacts.run.config.train
    return [
        *_equal_rewards(log),
        *_truncation(log, artifacts.run.config.policy.max_new_tokens),
        *_collapse(log),
        *_drift(log),
        *_falling_chosen(log, train.method, train.dpo.beta),
        *_misleading_values(log),
    ]


def _equal_rewards(log: list[dict[str, Any]]) -> list[Diagnosis]:
    share, where = _mean([value for _, value in figures(log, "zero_signal_share")]), "groups"
    if share is None and (spreads := [value for _, value in figures(log, "reward_std")]):
        # PPO has no groups: a step says nothing where all of its rewards are equal
        share, where = _mean([float(spread == 0) for spread in spreads]), "steps"
    if share is None or share < ZERO_SIGNAL_LIMIT:
        return []
    reward = _mean([value for _, value in figures(log, "reward")]) or 0.0
    cause = "nearly always right" if reward > 0.5 else "nearly always wrong"
    return [
        Diagnosis(
            "problem",
            f"In {percent(share)} of the {where} all completions earned the same reward (they were {cause}): "
            "there was nothing to learn from.",
            "Select samples by high-potential (select.strategy), raise train.completions or train.temperature; "
            "after a warm-up, stop it earlier (warm_up.stop_at_readable).",
        )
    ]


def _truncation(log: list[dict[str, Any]], limit: int) -> list[Diagnosis]:
    truncated = _late(log, "truncated_share")
    if truncated is None or truncated <= TRUNCATED_LIMIT:
        return []
    return [
        Diagnosis(
            "problem",
            f"At the end of training {percent(truncated)} of the completions were cut at the token limit before "
            "they had answered.",
            f"Raise policy.max_new_tokens (it is {limit}), or ask for shorter solutions in output_format.",
        )
    ]


def _collapse(log: list[dict[str, Any]]) -> list[Diagnosis]:
    early, late = _early(log, "entropy"), _late(log, "entropy")
    if not early or late is None or late >= ENTROPY_LIMIT * early or not figures(log, "reward"):
        return []  # without rollouts (SFT, DPO) a falling entropy is what is asked for
    return [
        Diagnosis(
            "problem",
            f"Entropy fell from {number(early)} to {number(late)}: the model writes nearly the "
            "same completion every time and explores no more.",
            "Raise train.temperature or train.kl_coefficient, or lower train.learning_rate or the steps.",
        )
    ]


def _drift(log: list[dict[str, Any]]) -> list[Diagnosis]:
    values = [value for _, value in figures(log, "kl")]
    if not values:
        return []
    # The median: the estimate of a token is exp(difference) - difference - 1, and one that became unlikely can come to
    # hundreds, which says nothing about the others.
    divergence = statistics.median(values[-_window(values) :])
    if divergence <= KL_LIMIT:
        return []
    return [
        Diagnosis(
            "problem",
            f"The tuned model moved {number(divergence)} nats a token away from where it started: it may have "
            "unlearned what the base model could do.",
            "Lower train.learning_rate or raise train.kl_coefficient.",
        )
    ]


def _falling_chosen(log: list[dict[str, Any]], method: str, beta: float) -> list[Diagnosis]:
    reward = _late(log, "chosen_reward")
    if reward is None or reward / beta >= CHOSEN_LIMIT:
        return []
    other = "" if method == "stepwise" else ", or learn from single steps (--method stepwise)"
    return [
        Diagnosis(
            "problem",
            f"The chosen completions lost {number(-reward / beta)} nats of log-probability: the model unlearns them "
            "together with the rejected ones, only more slowly.",
            f"Raise train.dpo.beta (it is {beta:g}), lower train.dpo.learning_rate or train.dpo.epochs{other}.",
        )
    ]


def _misleading_values(log: list[dict[str, Any]]) -> list[Diagnosis]:
    explained = _late(log, "explained_variance")
    if explained is None or explained >= EXPLAINED_LIMIT:
        return []
    return [
        Diagnosis(
            "problem",
            f"PPO's values explained {number(explained)} of the returns' variance at the end of training: below 0 they "
            "are worse than a constant, and advantages mislead.",
            "Lower train.ppo.value_learning_rate or train.ppo.passes, make more rollouts a step (train.batch), or "
            "train by GRPO, which needs no values.",
        )
    ]


def _window(values: Sequence[float]) -> int:
    return max(1, min(WINDOW, len(values) // 3))


def _early(log: list[dict[str, Any]], key: str) -> float | None:
    values = [value for _, value in figures(log, key)]
    return _mean(values[: _window(values)])


def _late(log: list[dict[str, Any]], key: str) -> float | None:
    values = [value for _, value in figures(log, key)]
    return _mean(values[-_window(values) :])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
