"""Shared prompts give the numbers, and the gradients, of separate forward passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taskdef.policy.shared_prefix import (
    PackedTree,
    pack_groups,
    packed_log_probabilities,
    supports_shared_prefix,
    token_log_probabilities,
)
from taskdef.policy.transformers_policy import TransformersPolicy

LoadTiny = Callable[..., TransformersPolicy]
PROMPTS = [[9, 40, 7, 8], [100, 20, 33, *range(60, 82)], [5]]  # the second is longer than the windows of 16
GROUPS = [
    [[10, 11, 12], [10], [50, 51, 52, 53, 1]],
    [[], [7, 7]],  # a completion without any token (masked out of the loss) beside a short one
    [[200, 1], [201, 202, 203], [204]],
]
WIDTH = 6
COUNT = sum(map(len, GROUPS))
TEMPERATURE = 0.8


def separately(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """One forward pass a completion; nothing shared, nothing padded."""
    log_probabilities, entropies = torch.zeros(COUNT, WIDTH), torch.zeros(COUNT, WIDTH)
    row = 0
    for prompt, group in zip(PROMPTS, GROUPS, strict=True):
        for ids in group:
            if ids:
                logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
                normalised = torch.log_softmax(logits, dim=-1)
                log_probabilities[row, : len(ids)] = normalised[torch.arange(len(ids)), torch.tensor(ids)]
                entropies[row, : len(ids)] = -(normalised.exp() * normalised).sum(-1).detach()
            row += 1
    return log_probabilities, entropies


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("architecture", ["tiny_llama", "tiny_gemma", "tiny_qwen", "tiny_mistral"])
def test_numbers_and_gradients_equal_separate_passes(
    architecture: str, load_tiny: LoadTiny, request: pytest.FixtureRequest
) -> None:
    model = load_tiny(request.getfixturevalue(architecture)).model
    assert supports_shared_prefix(model)
    weights = torch.linspace(-1, 1, COUNT * WIDTH).view(COUNT, WIDTH)
    gradients = []
    results = []
    for compute in (
        lambda: separately(model),
        lambda: packed_log_probabilities(
            model, pack_groups(PROMPTS, GROUPS, width=WIDTH), temperature=TEMPERATURE, shape=(COUNT, WIDTH)
        ),
    ):
        model.zero_grad()
        log_probabilities, entropies = compute()
        (log_probabilities * weights).sum().backward()
        results.append((log_probabilities.detach(), entropies))
        gradients.append({name: each.grad.clone() for name, each in model.named_parameters()})
    assert relative_error(results[1][0], results[0][0]) < 1e-4
    assert relative_error(results[1][1], results[0][1]) < 1e-4
    for name, gradient in gradients[0].items():
        assert relative_error(gradients[1][name], gradient) < 1e-4, name
    assert not results[1][1].requires_grad


def test_places_without_a_token_are_zero(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    model = load_tiny(tiny_llama).model
    grid, entropies = packed_log_probabilities(
        model, pack_groups(PROMPTS, GROUPS, width=WIDTH), temperature=1.0, shape=(COUNT, WIDTH)
    )
    lengths = [len(ids) for group in GROUPS for ids in group]
    for row, length in enumerate(lengths):
        assert (grid[row, :length] < 0).all()
        assert (entropies[row, :length] > 0).all()
        assert not grid[row, length:].any()
        assert not entropies[row, length:].any()


def test_only_empty_completions_give_zeros_and_zero_gradients(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    model = load_tiny(tiny_llama).model
    grid, _ = packed_log_probabilities(model, pack_groups([[4, 5]], [[[], []]], width=2), temperature=1.0, shape=(2, 2))
    assert not grid.any()
    grid.sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_a_completion_sees_its_prompt_and_itself_only() -> None:
    packed = pack_groups([[4, 5]], [[[6, 7], [8]]], width=2)
    assert packed.input_ids.tolist() == [[4, 5, 6, 7, 8]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert packed.prompt_places == 2
    assert packed.visible[0].int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert packed.predictor.tolist() == [1, 2, 1]
    assert packed.target.tolist() == [6, 7, 8]
    assert packed.slot.tolist() == [0, 1, 2]


def test_a_window_counts_positions_not_places() -> None:
    tree = PackedTree(pack_groups([[4, 5, 6]], [[[7, 8], [9]]], width=2))
    among_prompts, behind_prompts = tree._masks(2, torch.device("cpu"))
    assert among_prompts is not None
    assert among_prompts.int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert behind_prompts[0, 0].int().tolist() == [
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 1, 0, 0, 1],  # three places behind the prompt's last token, but one position
    ]
    assert tree._masks(3, torch.device("cpu"))[0] is None  # as long as the prompt: nothing to hide in it


def test_ordinary_passes_are_what_they_were_after_a_packed_one(tiny_gemma: Path, load_tiny: LoadTiny) -> None:
    model = load_tiny(tiny_gemma).model
    ids = torch.tensor([[0, 0, *range(5, 45)], [*range(8, 50)]])
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    before = model(ids, attention_mask=mask).logits
    packed_log_probabilities(model, pack_groups(PROMPTS, GROUPS, width=WIDTH), temperature=1.0, shape=(COUNT, WIDTH))
    assert torch.equal(model(ids, attention_mask=mask).logits, before)


def test_gradient_checkpoints_find_the_same_attention(tiny_gemma: Path, load_tiny: LoadTiny) -> None:
    gradients = []
    for checkpoints in (False, True):
        model = load_tiny(tiny_gemma).model.train()
        if checkpoints:
            model.gradient_checkpointing_enable()
        packed = pack_groups(PROMPTS, GROUPS, width=WIDTH)
        packed_log_probabilities(model, packed, temperature=1.0, shape=(COUNT, WIDTH))[0].sum().backward()
        gradients.append({name: each.grad for name, each in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient, rtol=1e-5, atol=1e-7), name


def test_attention_that_is_no_plain_softmax_is_not_packed(tiny_lfm: Path, load_tiny: LoadTiny) -> None:
    assert not supports_shared_prefix(load_tiny(tiny_lfm).model)  # its first layer is a convolution


@pytest.mark.parametrize("attention", ["flash_attention_2", "eager"])
def test_another_kernel_that_was_asked_for_is_kept(tiny_llama: Path, load_tiny: LoadTiny, attention: str) -> None:
    model = load_tiny(tiny_llama).model
    model.config._attn_implementation = attention
    assert not supports_shared_prefix(model)


@pytest.mark.parametrize(
    ("setting", "value"), [("logits_scaling", 8.0), ("final_logit_softcapping", 30.0), ("sliding_window", 16)]
)
def test_what_a_known_model_may_not_have_is_not_packed(
    tiny_llama: Path, load_tiny: LoadTiny, setting: str, value: float
) -> None:
    model = load_tiny(tiny_llama).model
    setattr(model.config, setting, value)
    assert not supports_shared_prefix(model)


def test_capped_logits_are_capped_before_their_softmax(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    model = load_tiny(tiny_llama).model
    model.config.final_logit_softcapping = 0.5
    states, target = torch.randn(3, model.config.hidden_size), torch.tensor([5, 6, 7])
    found, _ = token_log_probabilities(model, states, target, temperature=0.7)
    logits = 0.5 * torch.tanh(model.get_output_embeddings()(states) / 0.5)
    wanted = torch.log_softmax(logits / 0.7, -1)[torch.arange(3), target]
    assert torch.allclose(found, wanted, atol=1e-5)
