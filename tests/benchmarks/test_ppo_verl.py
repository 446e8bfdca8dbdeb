"""PPO's arithmetic is verl's, to the last bits of float32."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ppo_verl" / "compare.py"


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ppo_verl_compare", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_advantages_and_losses_are_those_of_verl(compare: ModuleType) -> None:
    try:
        python = compare.find_environment()
    except compare.NoEnvironment as error:
        pytest.skip(f"{compare.VERL} cannot be installed here: {error}")
    for settings, found in zip(compare.SETTINGS, compare.differences(python), strict=True):
        for name, (difference, scale) in found.items():
            assert difference <= 2e-6 * max(1.0, scale), (name, settings)


def test_what_is_compared_has_every_case_in_it(compare: ModuleType) -> None:
    """A comparison in which nothing was clipped, or every completion was as long, would show little."""
    given = compare.random_rollouts(rows=64, width=48, seed=0)
    found = compare.computed_here(given, compare.SETTINGS[0])
    assert 0.2 < found["clipped share"] < 0.8
    assert 1 <= given["mask"].sum(dim=1).min() < 10 < 40 < given["mask"].sum(dim=1).max() <= 48
    assert 0.2 < given["verdicts"].mean() < 0.8
    seen = given["mask"].bool()
    assert (found["gradient of log-probabilities"][seen] == 0).any()  # clipped for good
    assert (found["gradient of values"][seen] == 0).any()
