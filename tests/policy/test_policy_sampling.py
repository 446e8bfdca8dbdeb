"""Sampling against transformers' own generation, and against frequencies worked out by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taskdef.policy import branches
from taskdef.policy.sampling import _choose, batches_by_length, sample_completions
from taskdef.policy.transformers_policy import TransformersPolicy, stop_token_ids

LoadTiny = Callable[..., TransformersPolicy]
PROMPTS = [[9, 40, 7], [100, 20, 33, 60, 61, 62, 63, 64], [5], [12, 200, 201, 17, 5]]


def sample(policy: TransformersPolicy, prompts: list[list[int]] = PROMPTS, **changes: Any) -> list[list[list[int]]]:
    settings: dict[str, Any] = {
        "count": 1,
        "max_new_tokens": 12,
        "temperature": 0.0,
        "stop_ids": policy.stop_ids,
        "pad_id": 0,
        "generator": torch.Generator().manual_seed(7),
    }
    return sample_completions(policy.model, prompts, **(settings | changes))


def generated(policy: TransformersPolicy, prompt: list[int], stop_ids: frozenset[int], steps: int) -> list[int]:
    """Greedy continuation by transformers, one prompt alone."""
    output = policy.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=steps,
        eos_token_id=sorted(stop_ids),
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gemma"])
def test_greedy_is_what_transformers_generates(model: str, load_tiny: LoadTiny, request: pytest.FixtureRequest) -> None:
    policy = load_tiny(request.getfixturevalue(model))
    prompts = [*PROMPTS, list(range(30, 60))]  # longer than Gemma's window
    ours = sample(policy, prompts, max_new_tokens=24)
    assert [group[0] for group in ours] == [generated(policy, prompt, policy.stop_ids, 24) for prompt in prompts]


def test_stop_tokens_end_rows_and_leaving_the_batch_changes_no_other_row(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    policy = load_tiny(tiny_llama)
    free = [group[0] for group in sample(policy, max_new_tokens=16, stop_ids=frozenset())]
    assert [len(ids) for ids in free] == [16] * len(PROMPTS)
    # stop the rows at different steps: the tokens that rows 0 to 2 write at steps 2, 5 and 9
    stops = frozenset(free[row][step] for row, step in enumerate([2, 5, 9]))
    stopped = [group[0] for group in sample(policy, max_new_tokens=16, stop_ids=stops)]
    for ids, whole in zip(stopped, free, strict=True):
        end = next((place for place, token in enumerate(whole) if token in stops), len(whole) - 1)
        assert ids == whole[: end + 1]  # the stop token included, nothing after it
    assert len({len(ids) for ids in stopped}) > 1


def test_shapes_and_that_completions_of_a_prompt_are_its_own(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    policy = load_tiny(tiny_llama)
    groups = sample(policy, count=3, temperature=1.0, max_new_tokens=5, stop_ids=frozenset())
    assert [[len(ids) for ids in group] for group in groups] == [[5, 5, 5]] * len(PROMPTS)
    # almost cold sampling of three copies gives three times the greedy continuation of the right prompt
    cold = sample(policy, count=3, temperature=1e-4, max_new_tokens=5, stop_ids=frozenset())
    greedy = sample(policy, max_new_tokens=5, stop_ids=frozenset())
    assert cold == [group * 3 for group in greedy]


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gemma", "tiny_qwen", "tiny_mistral"])
def test_a_shared_cache_draws_what_copies_of_it_draw(
    model: str, load_tiny: LoadTiny, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_tiny(request.getfixturevalue(model))
    prompts = [*PROMPTS, list(range(30, 60))]  # longer than the windows of 16
    monkeypatch.setattr(branches, "_GROWTH", 5)  # own caches grow four times
    kept: list[int] = []
    keep = branches.SharedBranches.keep
    monkeypatch.setattr(
        branches.SharedBranches, "keep", lambda self, rows: (kept.append(len(rows)), keep(self, rows))[1]
    )
    settings: dict[str, Any] = {
        "count": 4,
        "temperature": 1.0,
        "max_new_tokens": 22,
        "stop_ids": frozenset(range(0, 150, 6)),  # rows end at all steps, prompts with them
    }
    shared = sample(policy, prompts, **settings)
    monkeypatch.setattr(branches, "supports_tree_attention", lambda _model: False)
    assert shared == sample(policy, prompts, generator=torch.Generator().manual_seed(7), **settings)
    assert len({len(ids) for group in shared for ids in group}) > 3
    assert len(kept) > 2


def test_the_same_seed_gives_the_same_completions(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    policy = load_tiny(tiny_llama)
    inputs = ["1 + 2?", "a far longer question about 3 + 4?", "5?"]
    settings: dict[str, Any] = {"count": 4, "temperature": 1.0}
    first = policy.complete(inputs, seed=3, **settings)
    assert policy.complete(inputs, seed=3, **settings) == first
    assert policy.complete(inputs, seed=4, **settings) != first
    assert len({each.text for group in first for each in group}) > 6


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        # p ** 2, normalised: 0.25 + 0.09 + 0.0225 + 0.0025 = 0.365
        (0.5, 1.0, [0.6849, 0.2466, 0.0616, 0.0068]),
        # mass before the tokens: 0, 0.5, 0.8, 0.95; under 0.8 stay the first two
        (1.0, 0.8, [0.625, 0.375, 0.0, 0.0]),
        (1.0, 0.81, [0.5263, 0.3158, 0.1579, 0.0]),
        (1.0, 0.01, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_tokens_are_drawn_as_often_as_their_probability_says(
    temperature: float, top_p: float, expected: list[float]
) -> None:
    rows = 40_000
    order = [2, 0, 3, 1]  # the most likely token is not the first of the vocabulary
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])[torch.tensor(order)]
    logits = probabilities.log().expand(rows, 4)
    drawn = Counter(_choose(logits, temperature, top_p, torch.Generator().manual_seed(0)).tolist())
    for token, rank in enumerate(order):
        # five standard deviations of a share of 40,000 draws are at most 0.0125
        assert drawn[token] / rows == pytest.approx(expected[rank], abs=0.0125)
        assert expected[rank] > 0 or drawn[token] == 0


def test_a_token_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(5_000, 5)
    assert set(_choose(logits, 1.0, 1.0, torch.Generator().manual_seed(1)).tolist()) == {1, 3}


def test_completions_say_whether_the_limit_ended_them(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    policy = load_tiny(tiny_llama)
    ended = policy.as_completion([*policy.encoder.completion_ids("#### 5")])
    assert (ended.text, ended.token_count, ended.truncated) == ("#### 5", 7, False)
    cut = policy.as_completion(policy.encoder.completion_ids("#### 5")[:-1])
    assert (cut.text, cut.token_count, cut.truncated) == ("#### 5", 6, True)


def test_stop_tokens_are_the_tokenizers_and_the_generation_configs(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    policy = load_tiny(tiny_llama)
    policy.model.generation_config.eos_token_id = [3, 50]
    assert stop_token_ids(policy.model, policy.tokenizer) == {1, 3, 50}
    policy.model.generation_config.eos_token_id = None
    assert stop_token_ids(policy.model, policy.tokenizer) == {1}


def test_batches_hold_like_lengths_and_stay_under_the_bound() -> None:
    bounds = {"count": 2, "max_new_tokens": 10, "batch_tokens": 100}
    # rows x (longest + 10): the two of 3 and 5 fit two completions each (4 x 15), a third prompt of 20 would not
    assert batches_by_length([20, 3, 200, 5, 8], **bounds) == [[1, 3], [4], [0], [2]]
    assert batches_by_length([], **bounds) == []
