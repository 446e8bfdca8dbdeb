import shlex

import pytest
import yaml

from taskdef.config import RunConfig, build_config
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, TaskDefinition
from taskdef.report.repeat import definition_yaml, repeat_command, settings

DEFINITION = TaskDefinition(
    name="sums",
    description="Add: two numbers.",
    output_format="#### and the number",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)


def test_the_command_says_what_differs_from_the_profile() -> None:
    config = build_config(
        profile="small",
        overrides={
            "instructor": "openai:m@http://127.0.0.1:8080/v1",
            "seed": 3,
            "select.size": 40,
            "adapt.enabled": False,
        },
    )
    assert repeat_command(DEFINITION, config) == (
        "taskdef run sums.yaml \\\n"
        "  --profile small \\\n"
        "  --base-model builtin:smollm2-135m \\\n"
        "  --instructor openai:m@http://127.0.0.1:8080/v1 \\\n"
        "  --seed 3 \\\n"
        "  --set adapt.enabled=false \\\n"
        "  --set select.size=40"
    )


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"base_model": "/models/a b's", "instructor": "scripted:my file.jsonl"},
        {"train.learning_rate": 3e-6, "train.max_steps": None, "warm_up.mode": "never", "evaluate.limit": 20},
        {"synthesize.pattern": False, "train.adapter": "lora", "policy.dtype": "float32"},
    ],
)
def test_the_command_gives_the_same_config_again(overrides: dict[str, object]) -> None:
    config = build_config(profile="small", overrides={"instructor": "procedural:x", **overrides})
    assert _read_back(repeat_command(DEFINITION, config)) == config


def _read_back(command: str) -> RunConfig:
    words = shlex.split(command.replace("\\\n", " "))[3:]
    options = list(zip(words[::2], words[1::2], strict=True))
    own = {name: value for name, value in options if name != "--set"}
    given = dict(value.split("=", 1) for name, value in options if name == "--set")
    given |= {"base_model": own["--base-model"], "instructor": own["--instructor"], "seed": own["--seed"]}
    return build_config(profile=own["--profile"], overrides=given)


def test_settings_are_marked_against_the_papers() -> None:
    marked = {one.key: one for one in settings(build_config(profile="small", overrides={"seed": 9}))}
    assert (marked["select.attempts"].value, marked["select.attempts"].paper) == ("16", "64")
    assert marked["select.attempts"].changed
    assert not marked["select.temperature"].changed
    assert not marked["seed"].changed


def test_the_definition_offered_for_download_is_the_runs_own() -> None:
    assert TaskDefinition.model_validate(yaml.safe_load(definition_yaml(DEFINITION))) == DEFINITION
