"""bf16 weights learn as float32 weights do."""

from __future__ import annotations

from pathlib import Path

import torch

from taskdef.policy.master_weights import MasterWeightAdamW


def weights(dtype: torch.dtype) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.linspace(0.5, 1.0, 8).to(torch.bfloat16).to(dtype))


def gradient(step: int) -> torch.Tensor:
    return torch.sin(torch.arange(8.0) + step)


def take_steps(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, steps: range) -> None:
    for step in steps:
        parameter.grad = gradient(step).to(parameter.dtype)
        optimizer.step()
        optimizer.zero_grad()


def test_updates_too_small_for_bf16_add_up() -> None:
    parameter = weights(torch.bfloat16)
    before = parameter.detach().clone()
    optimizer = MasterWeightAdamW([parameter], 1e-4, weight_decay=0.0)
    for _ in range(10):  # AdamW moves by the learning rate where gradients are constant: 1e-3 in 10 steps
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert torch.allclose(optimizer.masters[0], before.float() - 1e-3, atol=1e-6)
    plain = weights(torch.bfloat16)
    rounding = torch.optim.AdamW([plain], lr=1e-4, weight_decay=0.0)
    for _ in range(40):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        plain.grad = torch.ones_like(plain)
        rounding.step()
    assert torch.equal(plain, before)  # what the copies are for: bf16 near 1 moves in steps of 0.004
    assert not torch.equal(parameter, before)  # 5e-3 in all


def test_it_is_float32_adamw_rounded() -> None:
    parameter, reference = weights(torch.bfloat16), weights(torch.float32)
    optimizer = MasterWeightAdamW([parameter], 3e-3, weight_decay=0.1)
    plain = torch.optim.AdamW([reference], lr=3e-3, weight_decay=0.1)
    for step in range(30):
        both = gradient(step).to(torch.bfloat16)  # the model's gradients are bf16
        parameter.grad, reference.grad = both, both.float()
        optimizer.step()
        plain.step()
    assert torch.equal(optimizer.masters[0], reference)
    assert torch.equal(parameter, reference.to(torch.bfloat16))


def test_a_checkpoint_holds_the_copies(tmp_path: Path) -> None:
    whole = weights(torch.bfloat16)
    take_steps(MasterWeightAdamW([whole], 1e-3, weight_decay=0.01), whole, range(20))

    first = weights(torch.bfloat16)
    stopped = MasterWeightAdamW([first], 1e-3, weight_decay=0.01)
    take_steps(stopped, first, range(9))
    torch.save(stopped.state_dict(), tmp_path / "optimizer.pt")

    second = torch.nn.Parameter(first.detach().clone())  # the rounded weights, as the model's file has them
    going_on = MasterWeightAdamW([second], 1e-3, weight_decay=0.01)
    going_on.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert torch.equal(going_on.masters[0], stopped.masters[0])
    take_steps(going_on, second, range(9, 20))
    assert torch.equal(second, whole)


def test_parameters_without_gradient_stay_and_frozen_ones_have_no_copy() -> None:
    moved, still, frozen = weights(torch.bfloat16), weights(torch.bfloat16), weights(torch.bfloat16)
    frozen.requires_grad_(False)
    optimizer = MasterWeightAdamW([moved, still, frozen], 1e-1, weight_decay=0.0)
    assert len(optimizer.masters) == 2
    moved.grad = torch.ones_like(moved)
    optimizer.step()
    optimizer.zero_grad()
    assert moved.grad is None
    assert not torch.equal(moved, still)
    assert torch.equal(still, frozen)
