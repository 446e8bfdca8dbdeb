"""What went wrong, in plain sentences, each with a remedy. Thresholds are rules of thumb and stand here by name."""

from __future__ import annotations

from typing import Any

from taskdef.records import Stage, Verdict
from taskdef.report.gather import Artifacts
from taskdef.report.text import model_name, number, p_value, percent, points
from taskdef.report.training_faults import TRUNCATED_LIMIT, Diagnosis, of_training

READABLE_LIMIT = 0.05
P_LIMIT = 0.05
VERIFIER_ERROR_LIMIT = 0.01


def diagnose(artifacts: Artifacts) -> list[Diagnosis]:
    """Every known failure pattern that the artifacts show, problems first."""
    found = [*_of_memory(artifacts), *_of_data(artifacts), *of_training(artifacts), *_of_result(artifacts)]
    return sorted(found, key=lambda one: one.kind != "problem")


def _of_memory(artifacts: Artifacts) -> list[Diagnosis]:
    fault = artifacts.fault
    return [Diagnosis("problem", fault["sentence"], fault["remedy"])] if fault else []


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
