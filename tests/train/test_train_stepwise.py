"""The pit by hand, and the theory on tables: what the pairs' loss is least at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from taskdef.train.forks import chance_preferred
from taskdef.train.pits import PitRule, cut_at_pit, find_pit, without_stop
from taskdef.train.q_values import StepValues

RULES = [PitRule.LEAST_ADVANTAGE, PitRule.LOWEST_Q, PitRule.FIRST_ZERO]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # V(x), then Q after each step; the pits by least advantage, lowest Q, first zero
        ([0.6, 0.5, 0.4, 0.05, 0.05, 0.02, 0.0], (2, 4, 5)),
        ([0.5, 0.5, 0.0, 0.0], (1, 1, 1)),
        ([0.5, 0.9, 0.1, 0.2, 0.0], (1, 1, 3)),
        ([0.5, 0.5, 0.75, 0.0], (2, 2, 2)),
        ([0.5, 0.0], (0, 0, 0)),
        # alike: the first
        ([0.5, 0.25, 0.5, 0.25], (0, 0, None)),
        # nothing lost: never solved, or never below the start
        ([0.0, 0.0, 0.0], (None, None, None)),
        ([0.5, 0.5, 0.75], (None, None, None)),
        ([0.5, 0.9, 0.6], (1, None, None)),
        ([0.5], (None, None, None)),
    ],
)
def test_the_pit_by_each_rule(values: list[float], expected: tuple[int | None, ...]) -> None:
    assert tuple(find_pit(values, rule) for rule in RULES) == expected


def test_a_response_is_cut_around_its_pit() -> None:
    values = StepValues(
        problem_id="p", ids=(5, 6, 7, 8, 1), ends=(2, 3, 5), values=(0.9, 0.8, 0.3, 0.0), rolled_out=2, pit=1
    )
    stop = frozenset({1})
    assert cut_at_pit(values, stop) == ((5, 6), (7,), 0.3)
    assert cut_at_pit(values.model_copy(update={"pit": 0}), stop) == ((), (5, 6), 0.8)
    # the last step ended the response; what is rejected does not say so
    assert cut_at_pit(values.model_copy(update={"pit": 2}), stop) == ((5, 6, 7), (8,), 0.0)
    with pytest.raises(ValueError, match="a response to p has no pit"):
        cut_at_pit(values.model_copy(update={"pit": None}), stop)
    assert [without_stop(ids, stop) for ids in [(), (1,), (7, 1), (1, 7)]] == [(), (), (7,), (1, 7)]


def test_the_chance_of_being_chosen_is_the_sigmoid_of_the_difference() -> None:
    assert chance_preferred(0.3, 0.3) == 0.5
    assert chance_preferred(1.0, 0.0) == pytest.approx(0.7310586)
    assert chance_preferred(0.0, 1.0) == pytest.approx(1 - 0.7310586)


# --- theory: one state, five steps -----------------------------------------------------------------------------


def least(loss: Callable[[torch.Tensor], torch.Tensor], steps: int) -> torch.Tensor:
    """The distribution over steps at which a loss of its log-probabilities is least."""
    logits = torch.zeros(steps, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-14, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(torch.log_softmax(logits, dim=0))
        value.backward()
        return value

    optimizer.step(closure)
    return torch.softmax(logits.detach(), dim=0)


def dpo_loss(reference: torch.Tensor, weights: torch.Tensor, beta: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """DPO's loss summed over pairs: ``weights[a, b]`` of the pair with a chosen and b rejected."""

    def loss(log_policy: torch.Tensor) -> torch.Tensor:
        ratio = log_policy - reference.log()
        margin = beta * (ratio[:, None] - ratio[None, :])
        return -(weights * torch.nn.functional.logsigmoid(margin)).sum()

    return loss


def draw_problem(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A reference policy, advantages with mean 0 under it, and the chance that a is chosen beside b."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.softmax(torch.randn(5, dtype=torch.float64, generator=generator), dim=0)
    q = torch.rand(5, dtype=torch.float64, generator=generator)
    chance = torch.tensor([[chance_preferred(a, b) for b in q.tolist()] for a in q.tolist()], dtype=torch.float64)
    return reference, q - (reference * q).sum(), chance


def tilted(reference: torch.Tensor, advantage: torch.Tensor, beta: float) -> torch.Tensor:
    """pi_ref exp(A / beta) / Z."""
    return torch.softmax(reference.log() + advantage / beta, dim=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_the_optimum_on_pairs_that_share_a_prefix_is_the_reference_tilted_by_advantages(seed: int, beta: float) -> None:
    reference, advantage, chance = draw_problem(seed)
    both_drawn = reference[:, None] * reference[None, :]
    expected = tilted(reference, advantage, beta)
    assert (least(dpo_loss(reference, both_drawn * chance, beta), 5) - expected).abs().max() < 1e-6
    # how often a pair is met does not matter, as long as neither side is met more often for being that side:
    # here the first step beside each of the others only, as a pit beside its alternatives
    star = torch.zeros(5, 5, dtype=torch.float64)
    star[0, 1:] = star[1:, 0] = 1.0
    assert (least(dpo_loss(reference, star * chance, beta), 5) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_that_is_the_optimum_of_advantage_weighted_learning(seed: int) -> None:
    reference, advantage, _ = draw_problem(seed)
    found = least(lambda log_policy: -(reference * (advantage / 0.5).exp() * log_policy).sum(), 5)
    assert (found - tilted(reference, advantage, 0.5)).abs().max() < 1e-6


def test_a_chosen_step_drawn_without_the_reference_has_another_optimum() -> None:
    reference, advantage, chance = draw_problem(0)
    # the rejected step from the reference, the chosen one from sigma(A_a - A_b) over all steps alike
    weights = reference[None, :] * chance / chance.sum(dim=0)
    found = least(dpo_loss(reference, weights, 0.5), 5)
    assert (found - tilted(reference, advantage, 0.5)).abs().max() > 0.01


def test_always_choosing_the_better_step_has_no_finite_optimum() -> None:
    reference, advantage, chance = draw_problem(0)
    found = least(dpo_loss(reference, (chance > 0.5).double(), 0.5), 5)
    assert found.argmax() == advantage.argmax()
    assert found.max() > 0.999
    assert tilted(reference, advantage, 0.5).max() < 0.9
