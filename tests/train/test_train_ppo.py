"""PPO's arithmetic, worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from taskdef.train.ppo import (
    explained_variance,
    generalized_advantages,
    padded,
    policy_losses,
    rewards_with_kl,
    value_losses,
    whiten,
)
from taskdef.train.value_head import VALUE_HEAD_FILE, ValueHead

CPU = torch.device("cpu")


def test_the_kl_is_in_every_tokens_reward_and_the_verdict_in_the_last() -> None:
    rewards = rewards_with_kl(
        torch.tensor([1.0, 0.5]),
        log_probs=torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, 0.0]]),
        ref_log_probs=torch.tensor([[-1.5, -2.0, -1.0], [-0.5, -3.0, -9.0]]),
        mask=torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]),
        beta=0.1,
    )
    # -0.1 x (0.5, 0, -2) and the verdict 1; -0.1 x (-0.5, 2) and the verdict 0.5; nothing where no token is
    assert torch.allclose(rewards, torch.tensor([[-0.05, 0.0, 1.2], [0.05, 0.3, 0.0]]))


def test_a_completion_that_is_masked_out_has_no_reward() -> None:
    zeros = torch.zeros(1, 2)
    assert rewards_with_kl(torch.tensor([math.nan]), zeros, zeros, zeros, beta=0.1).tolist() == [[0.0, 0.0]]


def test_generalized_advantages_of_three_tokens() -> None:
    advantages, returns = generalized_advantages(
        torch.tensor([[0.1, 0.0, 1.0]]),
        torch.tensor([[0.5, 0.4, 0.8]]),
        torch.ones(1, 3),
        gamma=0.9,
        gae_lambda=0.5,
    )
    # errors from the end: 1 - 0.8 = 0.2;  0 + 0.9 x 0.8 - 0.4 = 0.32;  0.1 + 0.9 x 0.4 - 0.5 = -0.04
    # advantages: 0.2;  0.32 + 0.45 x 0.2 = 0.41;  -0.04 + 0.45 x 0.41 = 0.1445
    assert torch.allclose(advantages, torch.tensor([[0.1445, 0.41, 0.2]]))
    assert torch.allclose(returns, torch.tensor([[0.6445, 0.81, 1.0]]))


def test_with_gamma_and_lambda_one_every_return_is_the_reward_to_come() -> None:
    values = torch.tensor([[0.3, 0.9, -0.2, 7.0]])
    advantages, returns = generalized_advantages(
        torch.tensor([[0.25, 0.0, 1.0, 0.0]]), values, torch.tensor([[1.0, 1.0, 1.0, 0.0]]), gamma=1, gae_lambda=1
    )
    assert torch.allclose(returns, torch.tensor([[1.25, 1.0, 1.0, 0.0]]))
    assert torch.allclose(advantages, torch.tensor([[0.95, 0.1, 1.2, 0.0]]))  # the padding's value counts nowhere


def test_whitening_leaves_the_padding_out() -> None:
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    whitened = whiten(torch.tensor([[1.0, 2.0], [3.0, 100.0]]), mask)
    assert torch.allclose(whitened, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), atol=1e-6)  # mean 2, variance 1
    assert whiten(torch.tensor([[5.0, 0.0]]), torch.tensor([[1.0, 0.0]])).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped", "slope"),
    [
        (1.0, 2.0, -2.0, 0, -2.0),
        (1.5, 2.0, -2.4, 1, 0.0),  # likelier than 1.2 times: no more gain
        (0.5, 2.0, -1.0, 0, -1.0),  # less likely by mistake: all of it counts
        (0.5, -2.0, 1.6, 1, 0.0),  # less likely than 0.8 times: no more gain
        (1.5, -2.0, 3.0, 0, 3.0),
    ],
)
def test_the_policy_loss_is_clipped_on_both_sides(
    ratio: float, advantage: float, loss: float, clipped: int, slope: float
) -> None:
    log_probs = torch.tensor(math.log(ratio) - 1.0, requires_grad=True)
    found, was_clipped = policy_losses(log_probs, torch.tensor(-1.0), torch.tensor(advantage), clip=0.2)
    assert found.item() == pytest.approx(loss, rel=1e-6)
    assert was_clipped == clipped
    (gradient,) = torch.autograd.grad(found, log_probs)
    assert gradient.item() == pytest.approx(slope, rel=1e-6)  # d ratio / d log-probability is the ratio


@pytest.mark.parametrize(
    ("value", "loss", "slope"),
    [
        (0.6, 0.08, -0.4),  # within 0.2 of the old 0.5: half of (0.6 - 1)^2
        (0.9, 0.045, 0.0),  # moved by 0.4 towards the return of 1: counts as 0.7, and no more gain
        (0.1, 0.405, -0.9),  # moved away from it: all of the error counts
        (1.6, 0.18, 0.6),  # far past it: the error counts as it is where that is more than (0.7 - 1)^2
    ],
)
def test_the_value_loss_is_clipped(value: float, loss: float, slope: float) -> None:
    found = torch.tensor(value, requires_grad=True)
    losses = value_losses(found, torch.tensor(0.5), torch.tensor(1.0), clip=0.2)
    assert losses.item() == pytest.approx(loss, rel=1e-5)
    (gradient,) = torch.autograd.grad(losses, found)
    assert gradient.item() == pytest.approx(slope, abs=1e-6)


def test_explained_variance() -> None:
    returns, mask = torch.tensor([[0.0, 1.0, 1.0, 0.0, 99.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])
    assert explained_variance(returns, returns, mask) == pytest.approx(1)
    assert explained_variance(torch.full((1, 5), 0.3), returns, mask) == pytest.approx(0)
    assert explained_variance(returns / 2, returns, mask) == pytest.approx(0.75)  # errors half as large
    assert explained_variance(1 - returns, returns, mask) == pytest.approx(-3)
    assert math.isnan(explained_variance(returns, torch.ones(1, 5), mask))


def test_values_are_means_of_normalised_states() -> None:
    head = ValueHead(2, learning_rate=0.5, into_policy=0.0, device=CPU)
    states = torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    assert head(states).tolist() == [0.0, 0.0]
    with torch.no_grad():
        head.weight.copy_(torch.tensor([1.0, 3.0]))
        head.bias.fill_(0.5)
    # the root mean square of (3, 4) is 5 / sqrt(2); the second state differs in scale alone
    expected = 0.5 + math.sqrt(2) * (0.6 * 1 + 0.8 * 3) / 2
    assert head(states).tolist() == pytest.approx([expected, expected], rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_value_loss_reaches_the_policy_in_part(share: float) -> None:
    gradients = []
    for into_policy in (share, 1.0):
        head = ValueHead(3, learning_rate=0.5, into_policy=into_policy, device=CPU)
        with torch.no_grad():
            head.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        states = torch.tensor([[1.0, 2.0, 4.0]], requires_grad=True)
        (head(states).sum() + 0 * states.sum()).backward()
        gradients.append((states.grad, head.weight.grad))
    (part, own), (whole, same) = gradients
    assert part is not None
    assert whole is not None
    assert torch.allclose(part, share * whole)
    assert torch.allclose(own, same)  # the head learns all the same


def test_a_head_that_was_saved_goes_on_as_it_would_have(tmp_path: Path) -> None:
    states = torch.tensor([[1.0, 2.0], [2.0, -1.0]])

    def learn(head: ValueHead) -> None:
        ((head(states) - torch.tensor([1.0, 0.0])) ** 2).sum().backward()
        head.learn()

    straight, resumed = (ValueHead(2, learning_rate=0.1, into_policy=0.0, device=CPU) for _ in range(2))
    learn(straight)
    learn(straight)
    straight.save(tmp_path)
    assert (tmp_path / VALUE_HEAD_FILE).read_bytes()[8:9] == b"{"  # safetensors: a JSON header, no Python objects
    resumed.load(tmp_path)
    for head in (straight, resumed):
        learn(head)
    assert torch.equal(straight.weight, resumed.weight)
    assert torch.equal(straight.bias, resumed.bias)
    assert straight.weight.any()


def test_rows_are_filled_up_on_the_side_asked_for() -> None:
    rows = [[7], [8, 9]]
    left, right = (padded(rows, left=side, device=CPU) for side in (True, False))
    assert left[0].tolist() == [[0, 7], [8, 9]]
    assert left[1].tolist() == [[0, 1], [1, 1]]
    assert right[0].tolist() == [[7, 0], [8, 9]]
    assert right[1].tolist() == [[1, 0], [1, 1]]
