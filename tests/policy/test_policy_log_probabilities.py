"""Blocks of logits give the numbers and gradients of log_softmax."""

from __future__ import annotations

import math

import pytest
import torch

from taskdef.policy import log_probabilities
from taskdef.policy.log_probabilities import log_probabilities_of


def test_by_hand() -> None:
    # chances 1/4 and 3/4 at temperature 2: logits 0 and 2 ln 3
    logits = torch.tensor([[0.0, 2 * math.log(3)]])
    found, entropy = log_probabilities_of(logits, torch.tensor([1]), temperature=2.0)
    assert found.item() == pytest.approx(math.log(3 / 4))
    assert entropy.item() == pytest.approx(math.log(4) - 3 / 4 * math.log(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", [1, 70, 1 << 18], ids=["a row", "two rows", "all"])
def test_as_log_softmax(dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(log_probabilities._BLOCK_ELEMENTS, "cpu", block)
    draw = torch.Generator().manual_seed(0)
    logits = (torch.randn(7, 33, generator=draw) * 8).to(dtype)
    target = torch.randint(33, (7,), generator=draw)
    weight = torch.randn(7, generator=draw)
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found, entropy = log_probabilities_of(mine, target, temperature=1.2)
    (found * weight).sum().backward()
    normal = torch.log_softmax(theirs.float() / 1.2, dim=-1)
    wanted = normal.gather(1, target[:, None])[:, 0]
    (wanted * weight).sum().backward()
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert torch.allclose(entropy, -(normal.exp() * normal).sum(-1), rtol=1e-4, atol=1e-5)
    assert mine.grad is not None
    assert mine.grad.dtype is dtype
    assert torch.allclose(
        mine.grad.float(), theirs.grad.float(), rtol=1e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-6
    )
    assert not entropy.requires_grad


def test_no_token_at_all() -> None:
    logits = torch.zeros(0, 5, requires_grad=True)
    found, entropy = log_probabilities_of(logits, torch.zeros(0, dtype=torch.long), temperature=1.0)
    found.sum().backward()
    assert found.shape == entropy.shape == (0,)
    assert logits.grad is not None
    assert logits.grad.shape == (0, 5)
