"""How to run it again: the exact command, and the settings beside the paper's."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import yaml

from taskdef.config import RunConfig, build_config, flatten, paper_values
from taskdef.readable import setting_text
from taskdef.records import TaskDefinition

_OWN_OPTIONS = {"profile": "--profile", "base_model": "--base-model", "instructor": "--instructor", "seed": "--seed"}


@dataclass(frozen=True)
class Setting:
    """One setting of the run beside the paper's value."""

    key: str
    value: str
    paper: str
    changed: bool


def repeat_command(definition: TaskDefinition, config: RunConfig) -> str:
    """The shell command that gives this config again, one option a line: only what differs from the profile.

    The task's file is named after the definition; the report offers it for download under that name.
    """
    defaults = flatten(build_config(profile=config.profile))
    parts = [["taskdef", "run", definition_file(definition)]]
    for key, value in flatten(config).items():
        if key in _OWN_OPTIONS:
            parts.append([_OWN_OPTIONS[key], setting_text(value)])
        elif value != defaults[key]:
            parts.append(["--set", f"{key}={setting_text(value)}"])
    return " \\\n  ".join(shlex.join(part) for part in parts)


def definition_file(definition: TaskDefinition) -> str:
    """The name under which the report offers the task definition."""
    return f"{definition.name}.yaml"


def definition_yaml(definition: TaskDefinition) -> str:
    """The definition as a task.yaml."""
    content = definition.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def settings(config: RunConfig) -> list[Setting]:
    """Every setting with the paper's value; changed ones are marked.

    What only this run can know (the models, the seed) has no paper value and is never marked.
    """
    paper = paper_values()
    return [
        Setting(
            key=key,
            value=setting_text(value),
            paper="" if key in _OWN_OPTIONS else setting_text(paper[key]),
            changed=key not in _OWN_OPTIONS and value != paper[key],
        )
        for key, value in flatten(config).items()
    ]
