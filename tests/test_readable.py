"""Figures, settings and likely names as a person reads them."""

from typing import Any

import pytest

from taskdef.config import build_config
from taskdef.readable import did_you_mean, duration, nearest, setting_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (8, "8 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [("adapt.enabled", False), ("instruct.budget", None), ("train.learning_rate", 1e-6), ("base_model", "")],
)
def test_a_setting_is_written_as_the_command_line_reads_it(key: str, value: Any) -> None:
    config: Any = build_config(overrides={key: setting_text(value)})
    for part in key.split("."):
        config = getattr(config, part)
    assert config == value


@pytest.mark.parametrize(("given", "found"), [("learing_rate", "learning_rate"), ("xyz", None)])
def test_the_nearest_name_is_offered_or_none(given: str, found: str | None) -> None:
    assert nearest(given, ["learning_rate", "batch"]) == found


def test_a_name_is_offered_at_the_end_of_a_message() -> None:
    assert (did_you_mean("batch"), did_you_mean(None)) == ("; did you mean batch?", "")
