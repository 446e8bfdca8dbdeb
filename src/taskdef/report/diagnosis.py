"""What went wrong, in plain sentences, each with a remedy. Thresholds are rules of thumb and stand here by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from taskdef.records import Stage, Verdict
from taskdef.report.gather import Artifacts, figures
from taskdef.report.text import model_name, number, p_value, percent, points

WINDOW = 10
"""Steps that the beginning and the end of training are averaged over."""
ZERO_SIGNAL_LIMIT = 0.9
TRUNCATED_LIMIT = 0.2
READABLE_LIMIT = 0.05
ENTROPY_LIMIT = 0.1
"""Share of the first steps' entropy below which the policy counts as collapsed."""
KL_LIMIT = 1.0
"""Nats a token; useful runs stay one or two orders of magnitude below."""
P_LIMIT = 0.05
VERIFIER_ERROR_LIMIT = 0.01


@dataclass(frozen=True)
class Diagnosis:
    """One finding about the run."""

    kind: Literal["problem", "note"]
    """A problem puts the result in doubt; a note is worth knowing."""
    sentence: str
    remedy: str


def diagnose(artifacts: Artifacts) -> list[Diagnosis]:
    """Every known failure pattern that the artifacts show, problems first."""
    found = [*_of_data(artifacts), *_of_training(artifacts), *_of_result(artifacts)]
    return sorted(found, key=lambda one: one.kind != "problem")


def _of_data(artifacts: Artifacts) -> list[Diagnosis]:
    found = []
    if artifacts.audit.get("poor"):
        usable = artifacts.audit["usable"]
        found.append(
            Diagnosis(
                "problem",
                f"In the audit {percent(usable['share'], 0)} of the passages were of any use (at most "
                f"{percent(usable['high'], 0)} are): most samples come from something else than the task's subject.",
                "Name a library about it (--passages PATH), or compare with retrieve.method=none.",
            )
        )
    wanted = artifacts.run.config.select.size
    if artifacts.is_done(Stage.SELECT) and len(artifacts.selected) < wanted:
        found.append(
            Diagnosis(
                "note",
                f"Only {number(len(artifacts.selected))} samples could be selected; {number(wanted)} were asked for.",
                "Ask for more initial samples (synthesize.samples), or for fewer to train on (select.size).",
            )
        )
    rates = [rate for rate in artifacts.pass_rates.values() if rate.attempts]
    attempts = sum(rate.attempts for rate in rates)
    unread = sum(rate.no_answer + rate.truncated for rate in rates)
    if attempts and 1 - unread / attempts < READABLE_LIMIT:
        warmed_up = artifacts.warm_up.get("done")
        found.append(
            Diagnosis(
                "problem",
                f"Of the {number(attempts)} scored attempts only {percent(1 - unread / attempts)} held an answer that "
                f"could be read, {'in spite of' if warmed_up else 'and there was no'} warm-up: pass rates say nothing "
                "about difficulty, and reinforcement has almost nothing to reward.",
                (
                    "Let the warm-up run longer (warm_up.max_steps)"
                    if warmed_up
                    else "Let it warm up (warm_up.mode=auto)"
                )
                + ", ask for the format more plainly in output_format, or raise policy.max_new_tokens.",
            )
        )
    if rates and not any(rate.correct for rate in rates):
        found.append(
            Diagnosis(
                "note",
                "No sample was solved in any scored attempt, so selection could not tell them apart.",
                "Ask for easier samples, or start from a stronger base model.",
            )
        )
    return found


def _of_training(artifacts: Artifacts) -> list[Diagnosis]:
    log, found = artifacts.log, []
    zero_signal = _mean([value for _, value in figures(log, "zero_signal_share")])
    if zero_signal is not None and zero_signal >= ZERO_SIGNAL_LIMIT:
        reward = _mean([value for _, value in figures(log, "reward")]) or 0.0
        cause = "nearly always right" if reward > 0.5 else "nearly always wrong"
        found.append(
            Diagnosis(
                "problem",
                f"In {percent(zero_signal)} of the groups all completions earned the same reward (they were {cause}): "
                "there was nothing to learn from.",
                "Select samples by high-potential (select.strategy), raise train.completions or train.temperature; "
                "after a warm-up, stop it earlier (warm_up.stop_at_readable).",
            )
        )
    truncated = _late(log, "truncated_share")
    if truncated is not None and truncated > TRUNCATED_LIMIT:
        found.append(
            Diagnosis(
                "problem",
                f"At the end of training {percent(truncated)} of the completions were cut at the token limit before "
                "they had answered.",
                f"Raise policy.max_new_tokens (it is {artifacts.run.config.policy.max_new_tokens}), or ask for shorter "
                "solutions in output_format.",
            )
        )
    early_entropy, late_entropy = _early(log, "entropy"), _late(log, "entropy")
    if early_entropy and late_entropy is not None and late_entropy < ENTROPY_LIMIT * early_entropy:
        found.append(
            Diagnosis(
                "problem",
                f"Entropy fell from {number(early_entropy)} to {number(late_entropy)}: the model writes nearly the "
                "same completion every time and explores no more.",
                "Raise train.temperature or train.kl_coefficient, or lower train.learning_rate or the steps.",
            )
        )
    divergence = _late(log, "kl")
    if divergence is not None and divergence > KL_LIMIT:
        found.append(
            Diagnosis(
                "problem",
                f"The tuned model moved {number(divergence)} nats a token away from where it started: it may have "
                "unlearned what the base model could do.",
                "Lower train.learning_rate or raise train.kl_coefficient.",
            )
        )
    return found


def _of_result(artifacts: Artifacts) -> list[Diagnosis]:
    found = []
    for pool, overlap in artifacts.evaluation.get("overlap", {}).items():
        if overlap["found"]:
            found.append(
                Diagnosis(
                    "problem",
                    f"{number(overlap['found'])} held-out questions occur word for word in the {pool} data: "
                    "the accuracies below are not held out.",
                    "Remove those rows from the test set, or run again from synthesize with --fresh synthesize.",
                )
            )
    for name, result in artifacts.evaluation.get("models", {}).items():
        found += _of_model(artifacts, name, result)
    for comparison in artifacts.evaluation.get("comparisons", []):
        found += _of_comparison(comparison)
    return found


def _of_model(artifacts: Artifacts, name: str, result: dict[str, Any]) -> list[Diagnosis]:
    found = []
    rows, verdicts = result["rows"], result["verdicts"]
    if rows and verdicts[Verdict.VERIFIER_ERROR] > VERIFIER_ERROR_LIMIT * rows:
        found.append(
            Diagnosis(
                "problem",
                f"The verifier failed on {number(verdicts[Verdict.VERIFIER_ERROR])} of {number(rows)} completions of "
                f"the {_lower(name)}; they are left out as missing data.",
                "Simplify the reading under `answer:`, or give it more time (verify.timeout_seconds).",
            )
        )
    if name != "tuned" or not rows:
        return found
    if verdicts[Verdict.TRUNCATED] > TRUNCATED_LIMIT * rows:
        found.append(
            Diagnosis(
                "problem",
                f"{percent(verdicts[Verdict.TRUNCATED] / rows)} of the tuned model's held-out completions were cut at "
                "the token limit.",
                f"Raise policy.max_new_tokens (it is {artifacts.run.config.policy.max_new_tokens}).",
            )
        )
    if verdicts[Verdict.NO_ANSWER] + verdicts[Verdict.TRUNCATED] > (1 - READABLE_LIMIT) * rows:
        found.append(
            Diagnosis(
                "problem",
                "Hardly any of the tuned model's held-out completions can be read: it has not learned the format.",
                "Let the warm-up run longer (warm_up.max_steps), or check that output_format asks for what "
                "`answer:` reads (`taskdef check`).",
            )
        )
    return found


def _of_comparison(comparison: dict[str, Any]) -> list[Diagnosis]:
    if comparison["a"] != "tuned" or comparison["a_reading"] != "strict" or comparison["difference_points"] is None:
        return []
    if comparison["difference_points"] > 0 and comparison["p_value"] < P_LIMIT:
        return []
    figures_of = f"{points(comparison['difference_points'])} points, {p_value(comparison['p_value'])}"
    other = f"the {_lower(comparison['b'])}" + (", read leniently" if comparison["b_reading"] == "lenient" else "")
    if comparison["b"] == "warm_up":
        remedy = "Train longer (train.max_steps), or look at the zero-signal share: the warm-up may have gone too far."
    elif comparison["b_reading"] == "lenient":
        remedy = "What was gained, if anything, is the format. Train longer, or on samples that are sometimes solved."
    else:
        remedy = "Look at the training curves: a flat reward asks for more steps or a higher train.learning_rate."
    return [Diagnosis("problem", f"The tuned model is not shown to be better than {other} ({figures_of}).", remedy)]


def _lower(name: str) -> str:
    return {"warm_up": "model after the warm-up"}.get(name, model_name(name).lower())


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _early(log: list[dict[str, Any]], key: str) -> float | None:
    return _mean([value for _, value in figures(log, key)[:WINDOW]])


def _late(log: list[dict[str, Any]], key: str) -> float | None:
    return _mean([value for _, value in figures(log, key)[-WINDOW:]])
