"""Settings: defaults are the paper's, layers win in order, faults name the key and the nearest known one."""

from pathlib import Path
from typing import Any

import pytest

from taskdef.config import PROFILES, RunConfig, build_config, digest, flatten, known_keys
from taskdef.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retrieve.passages", 10_000),
        ("synthesize.samples", 500),
        ("synthesize.votes", 16),
        ("synthesize.temperature", 0.7),
        ("select.size", 500),
        ("select.attempts", 64),
        ("train.completions", 16),
        ("train.temperature", 1.2),
        ("train.learning_rate", 1e-6),
        ("train.kl_coefficient", 0.01),
        ("train.epochs", 5.0),
        ("policy.max_new_tokens", 2048),
    ],
)
def test_defaults_are_the_published_values(key: str, value: Any) -> None:
    assert flatten(RunConfig())[key] == value


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("profile: small\nselect: {size: 90, attempts: 5}\n")
    config = build_config(files=[file], overrides={"select.size": "40"})
    # size: override over file; attempts: file over profile (16); samples: the profile's; epochs: the default.
    assert (config.select.size, config.select.attempts) == (40, 5)
    assert (config.synthesize.samples, config.train.epochs) == (200, 5.0)
    assert config.profile == "small"


def test_dotted_keys_in_a_file_are_those_of_set(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("select.size: 3\nselect: {attempts: 5}\ntrain.learning_rate: 1e-5\n")
    config = build_config(files=[file])
    assert (config.select.size, config.select.attempts, config.train.learning_rate) == (3, 5, 1e-5)
    file.write_text("seed: 1\nseed.more: 2\n")
    with pytest.raises(ConfigError) as caught:
        build_config(files=[file])
    assert caught.value.message == f"{file}: seed.more: seed was already given a plain value"


def test_a_profile_that_is_a_list_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("profile: [a]\n")
    with pytest.raises(ConfigError) as caught:
        build_config(files=[file])
    assert caught.value.message == "profile: ['a'] is not known"


def test_a_profile_on_the_command_line_wins_over_the_files(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("profile: small\n")
    assert build_config(profile="paper", files=[file]).synthesize.samples == 500


def test_an_existing_runs_settings_take_the_place_of_the_defaults() -> None:
    existing = build_config(profile="small", overrides={"select.size": 7})
    config = build_config(overrides={"select.attempts": "9"}, base=existing)
    assert (config.profile, config.select.size, config.select.attempts) == ("small", 7, 9)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-6", 1e-6), ("1.5E2", 150.0), ("3", 3.0), ("2.5e-05", 2.5e-5)],
)
def test_numbers_are_read_in_every_usual_form(text: str, value: float) -> None:
    assert build_config(overrides={"train.learning_rate": text}).train.learning_rate == value


def test_words_and_none_are_read_as_yaml_does() -> None:
    config = build_config(overrides={"adapt.enabled": "no", "train.max_steps": "null", "base_model": '"7"'})
    assert (config.adapt.enabled, config.train.max_steps, config.base_model) == (False, None, "7")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("select.sise", "select.size"), ("select.sizes", "select.size"), ("learning_rate", "train.learning_rate")],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match="no such setting") as caught:
        build_config(overrides={key: "1"})
    assert caught.value.message == f"{key}: no such setting; did you mean {nearest}?"


def test_an_unknown_key_like_no_other_gets_no_guess() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(overrides={"zzz": "1"})
    assert caught.value.message == "zzz: no such setting"
    assert caught.value.next_step == "`taskdef run --dry-run TASK` prints every setting"


def test_a_wrong_type_names_key_reason_and_value() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(overrides={"select.size": "many"})
    assert caught.value.message.startswith("select.size: input should be a valid integer")
    assert "'many'" in caught.value.message


def test_a_value_out_of_bounds_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.completions: input should be greater than or equal to 2"):
        build_config(overrides={"train.completions": "1"})


@pytest.mark.parametrize(
    ("given", "rollouts", "most"), [(None, "adaptive", 64), ("adaptive", "adaptive", 64), ("8", 8, 8)]
)
def test_rollouts_are_adaptive_or_a_number(given: str | None, rollouts: Any, most: int) -> None:
    select = build_config(overrides={"select.rollouts": given} if given else {}).select
    assert (select.rollouts, select.most_attempts) == (rollouts, most)


@pytest.mark.parametrize("given", ["fixed", "0", "true", "6.5", "null"])
def test_other_rollouts_are_refused_in_one_line(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(overrides={"select.rollouts": given})
    [line] = caught.value.message.splitlines()
    assert line.startswith("select.rollouts: input should be adaptive, or a whole number of at least 1 (given: ")


def test_two_faults_are_two_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(overrides={"select.size": "0", "select.attempts": "0"})
    assert [line.split(":")[0] for line in caught.value.message.splitlines()] == ["select.size", "select.attempts"]


def test_a_key_under_a_plain_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed was already given a plain value"):
        build_config(overrides={"seed": "1", "seed.more": "2"})


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match="'tiny' is not known") as caught:
        build_config(profile="tiny")
    assert caught.value.next_step == "choose one of paper, small"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"- a\n- b\n", "expected a mapping of settings, found list"),
        (b"select: {size: 3\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        build_config(files=[file])
    assert caught.value.message.startswith(str(file))
    assert caught.value.next_step


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file or directory"):
        build_config(files=[tmp_path / "none.yaml"])


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("# nothing yet\n")
    assert build_config(files=[file]) == RunConfig()


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_valid_and_changes_sizes_only(name: str) -> None:
    config = build_config(profile=name)
    changed = {key for key, value in flatten(config).items() if value != flatten(RunConfig())[key]}
    method = {"train.method", "train.kl_coefficient", "select.strategy", "adapt.enabled", "train.loss_type"}
    assert not changed & method


def test_flat_keys_are_the_known_keys() -> None:
    assert list(flatten(RunConfig())) == known_keys()


def test_every_config_beside_an_example_is_valid() -> None:
    files = sorted((Path(__file__).parents[1] / "examples").glob("*/config.yaml"))
    assert files, "the quickstart's settings stand in examples/sums/config.yaml"
    for file in files:
        assert build_config(files=[file]).instructor, file


def test_a_digest_ignores_key_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
