"""From a policy's own responses to pairs, and that shuffled Q teaches nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taskdef.config import StepwiseConfig
from taskdef.policy.attempts import Problem
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import SilentProgress
from taskdef.records import TaskDefinition
from taskdef.train import step_pairs as step_pairs_module
from taskdef.train.dpo import Pair
from taskdef.train.forks import Fork, find_forks, pairs_of
from taskdef.train.step_pairs import StepPairs, collect_step_pairs
from taskdef.verify.isolated import Verifier

PROBLEMS = [Problem(id=f"p{number}", input="x", gold="a") for number in range(3)]
MakePolicy = Callable[..., Any]


@pytest.fixture(autouse=True)
def a_step_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(step_pairs_module._GAPS, "sentences", re.compile(r"(?<=,)"))


def collect(policy: Any, verifier: Verifier, problems: list[Problem] = PROBLEMS, **settings: Any) -> StepPairs:
    return collect_step_pairs(
        policy,
        problems,
        StepwiseConfig.model_validate({"rollouts": 40, **settings}),
        seed=3,
        verifier=verifier,
        progress=SilentProgress(),
    )


# "a" leads to "a" most often, "b" never: the first letter decides
ARMS = {(): (0.4, 0.6), (1,): (0.9, 0.1), (1, 1): (1.0, 0.0), (1, 2): (0.0, 1.0), (2,): (0.1, 0.9)}
ARMS |= {(2, 1): (0.0, 1.0), (2, 2): (0.0, 1.0)}


def test_pairs_of_responses(tabular: MakePolicy, letters_verifier: Verifier) -> None:
    policy = tabular(ARMS)
    found = collect(policy, letters_verifier)
    # wrong ones are (1, 2, 2), (2, 1, 2) and (2, 2, 2), with stop token
    assert {values.ids for values in found.values} <= {(1, 2, 2, 0), (2, 1, 2, 0), (2, 2, 2, 0)}
    pits = {values.ids: values.pit for values in found.values}
    assert pits[2, 2, 2, 0] == 0
    assert pits.get((1, 2, 2, 0), 1) == 1
    prompt = (ord("x"),)
    assert Pair(prompt, (1, 1, 1, 0), (2,)) in found.pairs
    for pair in found.pairs:
        assert pair.chosen_ids == (1, 1, 1, 0)
        assert pair.rejected_ids in [(2,), (1, 2)]
    counts = found.counts
    assert counts.pairs == len(found.pairs) == counts.wrong_responses
    assert (counts.never_solved, counts.never_wrong, counts.without_pit) == (0, 0, 0)
    # one start and at most two other prefixes each: what follows "b" is settled
    assert counts.rollouts.prefixes == sum(map(len, policy.asked)) <= 3 * (1 + 2 + 1)
    assert counts.rollouts.truncation_rate == 0


def test_pairs_of_steps_share_what_stands_before_the_pit(tabular: MakePolicy, letters_verifier: Verifier) -> None:
    found = collect(tabular(ARMS), letters_verifier, pairs="step")
    x = ord("x")
    assert set(found.pairs) <= {Pair((x,), (1,), (2,)), Pair((x, 1), (1,), (2,))}
    assert Pair((x,), (1,), (2,)) in found.pairs
    assert found.counts.without_better_step == 0


def test_the_other_sides_are_drawn_by_advantages_where_asked_for(
    tabular: MakePolicy, letters_verifier: Verifier
) -> None:
    problems = [Problem(id=f"p{number}", input="x", gold="a") for number in range(200)]
    found = collect(tabular(ARMS), letters_verifier, problems, pairs="step", prefer="sampled", wrong_responses=1)
    forward = sum(pair.chosen_ids == (1,) for pair in found.pairs)
    backward = sum(pair.chosen_ids == (2,) for pair in found.pairs)
    assert forward + backward == len(found.pairs) >= 50
    # Q is nearly 1 beside 0: chosen with 0.73
    assert 0.55 < forward / len(found.pairs) < 0.9


def test_what_gives_no_pair_is_counted(tabular: MakePolicy, letters_verifier: Verifier) -> None:
    never_solved = [Problem(id="c", input="x", gold="c")]
    found = collect(tabular(ARMS), letters_verifier, never_solved)
    assert (found.pairs, found.counts.never_solved, found.counts.rollouts.prefixes) == ((), 1, 1)
    always_solved = collect(tabular({}, default=(1.0, 0.0)), letters_verifier, PROBLEMS[:1])
    assert (always_solved.pairs, always_solved.counts.never_wrong) == ((), 1)
    # cut by the limit before the stop token: not a finished response
    cut = collect(tabular({}, limit=3), letters_verifier, PROBLEMS[:1])
    assert (cut.pairs, cut.counts.never_wrong) == ((), 1)
    # at the last step the only other letter is the right one, at the first both are alike
    late = tabular({(1, 1): (0.5, 0.5), (1, 2): (0.5, 0.5), (2, 1): (0.5, 0.5), (2, 2): (0.5, 0.5)})
    at_the_end = collect(late, letters_verifier, PROBLEMS[:1], pairs="step")
    assert {pair.chosen_ids for pair in at_the_end.pairs} == {(1,)}
    assert {pair.rejected_ids for pair in at_the_end.pairs} == {(2,)}


def test_a_fork_without_a_better_step_gives_no_pair() -> None:
    draw = random.Random(0)
    assert pairs_of(Fork((9,), (2,), 0.5, {(1,): 0.5, (3,): 0.2}), "better", draw) == []
    assert pairs_of(Fork((9,), (2,), 0.5, {}), "better", draw) == []
    assert pairs_of(Fork((9,), (2,), 0.5, {(1,): 0.6, (3,): 0.7}), "better", draw) == [Pair((9,), (3,), (2,))]


@pytest.mark.parametrize("pairs", ["response", "step"])
def test_no_stop_token_is_rejected(
    pairs: str,
    tiny_llama: Path,
    load_tiny: Callable[..., TransformersPolicy],
    letters: TaskDefinition,
    letters_verifier: Verifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(step_pairs_module._GAPS, "sentences", re.compile(r"(?<=.)"))  # a step a character
    policy = load_tiny(tiny_llama, letters, max_new_tokens=12)
    # bytes that this untrained model writes end its responses: stop tokens that even have a text
    policy.stop_ids = frozenset(range(1, 60))
    problems = [Problem(id=f"p{n}", input=f"letter {n}", gold=gold) for n, gold in enumerate("LMNOPQRS3456")]
    found = collect(policy, letters_verifier, problems, pairs=pairs, best_of=2, rollouts=60)
    assert len(found.pairs) > 5
    ended = 0
    for pair in found.pairs:
        assert not policy.stop_ids & set(pair.rejected_ids)
        ended += pair.chosen_ids[-1] in policy.stop_ids
    assert ended == (len(found.pairs) if pairs == "response" else 0)


# --- a table that learns -----------------------------------------------------------------------------------------

# three letters; each choice counts: the last letter is "a" more often the more often "a" came before
CLIMB = {(): (0.4, 0.6), (1,): (0.5, 0.5), (2,): (0.5, 0.5)}
CLIMB |= {(1, 1): (0.8, 0.2), (1, 2): (0.4, 0.6), (2, 1): (0.4, 0.6), (2, 2): (0.05, 0.95)}


def learn(policy: Any, pairs: Sequence[Pair], beta: float = 0.1, steps: int = 150) -> float:
    """The chance of solving the problem after DPO on the pairs, by one table of logits; exact."""
    states = sorted(policy.table)
    reference = torch.tensor([policy.table[state] for state in states]).double().log()
    logits = reference.clone().requires_grad_()
    sides = []
    for pair in pairs:
        start = pair.prompt_ids[1:]  # after the prompt's one token
        for sign, side in ((1.0, pair.chosen_ids), (-1.0, pair.rejected_ids)):
            whole = (*start, *side)
            sides.append(
                [
                    (states.index(whole[:place]), whole[place] - 1, sign)
                    for place in range(len(start), len(whole))
                    if whole[place] != 0
                ]
            )
    rows = torch.zeros(len(pairs), len(states), 2, dtype=torch.float64)
    for number, places in enumerate(sides):
        for state, letter, sign in places:
            rows[number // 2, state, letter] += sign
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(steps):
        ratio = torch.log_softmax(logits, dim=1) - reference
        loss = -torch.nn.functional.logsigmoid(beta * (rows * ratio).sum(dim=(1, 2))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learned = torch.softmax(logits.detach(), dim=1).tolist()
    return type(policy)(dict(zip(states, learned, strict=True))).chance_correct(())


@pytest.mark.parametrize("settings", [{}, {"pairs": "step"}, {"pairs": "step", "prefer": "sampled"}])
def test_pairs_raise_the_chance_of_solving(
    settings: dict[str, str], tabular: MakePolicy, letters_verifier: Verifier
) -> None:
    policy = tabular(CLIMB)
    problems = [Problem(id=f"p{number}", input="x", gold="a") for number in range(20)]
    before = policy.chance_correct(())
    assert before == pytest.approx(0.4 * (0.5 * 0.8 + 0.5 * 0.4) + 0.6 * (0.5 * 0.4 + 0.5 * 0.05))
    after = learn(policy, collect(policy, letters_verifier, problems, **settings).pairs)
    assert after > before + 0.15


def shuffled(forks: Sequence[Fork], draw: random.Random) -> list[Fork]:
    """The same steps, every Q given to another one."""
    values = [q for fork in forks for q in (fork.pit_q, *fork.others.values())]
    draw.shuffle(values)
    left = iter(values)
    return [replace(fork, pit_q=next(left), others={ids: next(left) for ids in fork.others}) for fork in forks]


def test_shuffled_q_gives_no_gain(tabular: MakePolicy, letters_verifier: Verifier, monkeypatch: Any) -> None:
    policy = tabular(CLIMB)
    kept: list[list[Fork]] = []
    monkeypatch.setattr(step_pairs_module, "find_forks", lambda *given: kept.append(find_forks(*given)) or kept[-1])
    problems = [Problem(id=f"p{number}", input="x", gold="a") for number in range(200)]
    collect(policy, letters_verifier, problems, pairs="step", prefer="sampled", wrong_responses=4)
    before, gains, controls = policy.chance_correct(()), [], []
    for seed in range(8):
        draw = random.Random(seed)
        for forks, results in ((kept[0], gains), (shuffled(kept[0], draw), controls)):
            pairs = [pair for fork in forks for pair in pairs_of(fork, "sampled", draw)]
            results.append(learn(policy, pairs, beta=0.5) - before)
    mean = sum(controls) / len(controls)
    # eight controls scatter by 0.07 around 0
    assert abs(mean) < 0.1 < max(controls) + 0.1 < min(gains)
