"""Which samples are exported, and the prompt they are exported with: the one that the model is trained and evaluated
with, so that another trainer goes on where this one stands."""

from __future__ import annotations

import json
from typing import Any, Literal

from taskdef.policy.prompting import task_prompt
from taskdef.records import PassRate, Sample, Stage
from taskdef.store import RunDirectory

Which = Literal["training", "all"]
"""The training set in its order, or all samples that were scored."""
Style = Literal["chat", "plain"]
"""Prompts as messages, to which a trainer applies the model's chat template; or as plain text."""


def read_samples(run: RunDirectory, which: Which) -> list[Sample]:
    """Raises RunError where the run has not come that far."""
    if which == "training":
        return run.stage(Stage.SELECT).read_records("selected.jsonl", Sample)
    return run.stage(Stage.ADAPT).read_records("samples.jsonl", Sample)


def read_pass_rates(run: RunDirectory) -> dict[str, PassRate]:
    """By sample id; empty before scoring is done."""
    directory = run.stage(Stage.SELECT)
    if not directory.is_done():
        return {}
    return {rate.sample_id: rate for rate in directory.read_records("pass_rates.jsonl", PassRate)}


def prompt_style(run: RunDirectory) -> Style:
    """The style in which the run's own model is prompted: its setting, else whether the tuned model has a template.

    Without a tuned model it is chat, which every trainer turns into the template of the model it is given.
    """
    if run.config.policy.prompt != "auto":
        return run.config.policy.prompt
    if not run.model_path.exists() or (run.model_path / "chat_template.jinja").exists():
        return "chat"
    tokenizer = run.model_path / "tokenizer_config.json"
    settings = json.loads(tokenizer.read_bytes()) if tokenizer.exists() else {}
    return "chat" if settings.get("chat_template") else "plain"


def user_message(run: RunDirectory, sample: Sample) -> list[dict[str, str]]:
    """The prompt as messages."""
    return [{"role": "user", "content": task_prompt(run.definition, sample.input)}]


def styled_prompt(run: RunDirectory, sample: Sample, style: Style) -> Any:
    """The prompt in TRL's standard form (text) or its conversational one (messages)."""
    if style == "chat":
        return user_message(run, sample)
    return task_prompt(run.definition, sample.input) + "\n"  # as policy.prompting ends a plain prompt


def styled_completion(text: str, style: Style) -> Any:
    """A completion in the same form."""
    return [{"role": "assistant", "content": text}] if style == "chat" else text
