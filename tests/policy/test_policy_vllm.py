"""What vLLM is asked for, and what is made of its answers; the last test asks vLLM itself, where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskdef.config import PolicyConfig
from taskdef.errors import BaseModelError
from taskdef.policy.attempts import derived_seed
from taskdef.policy.load import load_policy, load_sampler
from taskdef.policy.vllm_policy import VllmPolicy, cache_bytes
from taskdef.records import TaskDefinition

SMALL = PolicyConfig(sampler="vllm", device="cpu", dtype="float32", max_prompt_tokens=50, max_new_tokens=6)


class Engine:
    """Stands for ``vllm.LLM``: keeps what it is asked, answers with completions in an order of its own."""

    def __init__(self, model: str, **settings: Any) -> None:
        self.model = model
        self.settings = settings
        self.asked: list[tuple[list[int], SimpleNamespace]] = []

    def generate(self, prompts: list[dict[str, Any]], settings: list[SimpleNamespace], *, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        self.asked += [(prompt["prompt_token_ids"], each) for prompt, each in zip(prompts, settings, strict=True)]
        return [
            SimpleNamespace(
                outputs=[
                    SimpleNamespace(index=index, token_ids=(40 + index, 1)[: each.max_tokens])
                    for index in reversed(range(each.n))
                ]
            )
            for each in settings
        ]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=Engine, SamplingParams=SimpleNamespace))


@pytest.mark.usefixtures("vllm")
def test_prompts_limits_and_seeds_are_handed_over(tiny_llama: Path, sums: TaskDefinition) -> None:
    policy = load_sampler(tiny_llama, sums, SMALL)
    assert isinstance(policy, VllmPolicy)
    own = load_policy(tiny_llama, sums, SMALL)
    found = policy.continue_prefixes([("1 + 2?", ()), ("3 + 4?", (7, 8, 9, 10, 11))], count=2, temperature=0.7, seed=5)
    assert found == [[[40, 1], [41, 1]], [[40], [41]]]
    (first, one), (second, other) = policy.engine.asked
    assert first == own.prompt_ids("1 + 2?")
    assert second == [*own.prompt_ids("3 + 4?"), 7, 8, 9, 10, 11]
    assert (one.max_tokens, other.max_tokens) == (6, 1)  # what the prefix leaves of the response limit
    assert (one.n, one.temperature) == (2, 0.7)
    assert one.seed == derived_seed(5, 0)
    assert other.seed == derived_seed(5, 1)
    assert set(one.stop_token_ids) == own.stop_ids == policy.stop_ids
    completion = policy.complete(["1 + 2?"], count=1, temperature=0.0, seed=0)[0][0]
    assert (completion.token_count, completion.truncated) == (2, False)
    assert policy.prompt_length("1 + 2?") == own.prompt_length("1 + 2?")
    assert policy.prompt_limit() == own.prompt_limit()


@pytest.mark.usefixtures("vllm")
def test_memory_and_length_follow_from_the_settings(tiny_llama: Path, sums: TaskDefinition) -> None:
    policy = load_sampler(tiny_llama, sums, SMALL.model_copy(update={"batch_tokens": 1000}))
    assert isinstance(policy, VllmPolicy)
    assert policy.engine.model == str(tiny_llama)
    assert policy.engine.settings["max_model_len"] == 56
    assert policy.engine.settings["dtype"] == "float32"
    config = load_policy(tiny_llama, sums, SMALL).model.config
    assert policy.engine.settings["kv_cache_memory_bytes"] == cache_bytes(config, 1000)
    assert policy.engine.settings["enable_chunked_prefill"] is False  # seeded draws cannot be taken back on a CPU
    assert policy.engine.settings["max_num_batched_tokens"] >= 56


def test_bytes_of_a_cache_by_hand() -> None:
    # SmolLM2-135M: 30 layers, 3 key-value heads of 64, keys and values, two bytes each: 23,040 a position
    config = SimpleNamespace(num_hidden_layers=30, num_key_value_heads=3, head_dim=64)
    config.get_text_config = lambda: config
    assert cache_bytes(config, 10) == 230_400  # type: ignore[arg-type]


def test_where_vllm_is_missing_the_message_says_so(
    tiny_llama: Path, sums: TaskDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(BaseModelError, match="vLLM cannot be imported") as caught:
        load_sampler(tiny_llama, sums, SMALL)
    assert "policy.sampler=own" in str(caught.value)


def test_what_vllm_cannot_serve_is_named(
    tiny_llama: Path, sums: TaskDefinition, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("No available memory for the cache blocks\nsecond line")

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=refuse, SamplingParams=SimpleNamespace))
    with pytest.raises(BaseModelError, match=r"vLLM cannot serve it: No available memory for the cache blocks\n"):
        load_sampler(tiny_llama, sums, SMALL)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BaseModelError, match=r"an adapter, which policy.sampler=vllm does not load"):
        load_sampler(tmp_path, sums, SMALL)


@pytest.mark.slow
def test_vllm_continues_greedily_as_the_own_sampler_does(sums: TaskDefinition) -> None:
    pytest.importorskip("vllm", reason="needs the extra vllm", exc_type=ImportError)
    settings = PolicyConfig(sampler="vllm", max_prompt_tokens=200, max_new_tokens=8, batch_tokens=4096, dtype="float32")
    inputs = ["What is 2 + 3?", "Name the capital of France."]
    vllm_policy = load_sampler("builtin:smollm2-135m", sums, settings)
    own = load_policy("builtin:smollm2-135m", sums, settings)
    named = {"count": 1, "temperature": 0.0, "seed": 0}
    assert vllm_policy.complete(inputs, **named) == own.complete(inputs, **named)
    # more prompts than one step of vLLM takes in, each with a seed of its own
    many = [f"{inputs[number % 2]} ({number})" for number in range(300)]
    drawn = vllm_policy.complete(many, count=2, temperature=0.7, seed=1)
    assert [len(group) for group in drawn] == [2] * 300
    assert vllm_policy.complete(many[:4], count=2, temperature=0.7, seed=1) == drawn[:4]
