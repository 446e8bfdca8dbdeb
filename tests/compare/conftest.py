"""A comparison of the smallest size: a base model of some thousand weights, a program as the instructor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskdef.compare.comparison import Comparison
from taskdef.compare.plan import parse_plan
from taskdef.records import TaskDefinition
from taskdef.records import TestSource as HeldOut

SETTINGS: dict[str, Any] = {
    "instructor": "procedural:chain_sum",
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 4,
    "policy.max_prompt_tokens": 256,
    "synthesize.samples": 8,
    "synthesize.max_draft_factor": 4,
    "warm_up.mode": "never",
    "select.rollouts": 2,
    "select.size": 4,
    "train.max_steps": 1,
    "train.batch": 2,
    "train.completions": 2,
    "train.epochs": 1,
}


@pytest.fixture
def held_out_sums(tmp_path: Path, sums: TaskDefinition) -> TaskDefinition:
    rows = [{"input": f"Held out: {n} plus {n}, please", "output": f"#### {2 * n}"} for n in range(100, 106)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sums.model_copy(update={"test": HeldOut(path=tmp_path / "test.jsonl")})


@pytest.fixture
def make_comparison(tmp_path: Path, held_out_sums: TaskDefinition, tiny_llama: Path) -> Callable[..., Comparison]:
    """``make_comparison({"full": {}, "easy": {"settings": {…}}}, seeds=[0])``: planned out, the first the reference."""

    def make(variants: dict[str, Any], definition: TaskDefinition | None = None, **given: Any) -> Comparison:
        settings = SETTINGS | {"base_model": str(tiny_llama)} | given.pop("settings", {})
        values = {"name": "small", "seeds": [0], "reference": next(iter(variants)), "settings": settings}
        plan = parse_plan(values | {"variants": variants} | given, "small")
        return Comparison.plan_out(tmp_path / "runs" / "small", plan, definition or held_out_sums)

    return make
