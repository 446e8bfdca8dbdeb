"""The warm-up: when it is needed, that it learns, that it stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from taskdef.config import WarmUpConfig
from taskdef.policy import warm_up as warm_up_module
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.policy.warm_up import needs_warm_up, supervised_loss, warm_up_policy
from taskdef.records import Sample
from taskdef.verify.isolated import Verifier

LoadTiny = Callable[..., TransformersPolicy]


@pytest.mark.parametrize(
    ("mode", "readable", "needed", "reason"),
    [
        ("never", 0.0, False, "switched off (warm_up.mode=never)"),
        ("always", 1.0, True, "asked for (warm_up.mode=always)"),
        ("auto", None, False, "no attempt could be judged"),
        ("auto", 0.1, True, "10% of the base model's attempts hold an answer that can be read, fewer than 20%"),
        ("auto", 0.2, False, "20% of the base model's attempts hold an answer that can be read, enough to start from"),
    ],
)
def test_when_a_warm_up_is_needed(mode: str, readable: float | None, needed: bool, reason: str) -> None:
    assert needs_warm_up(WarmUpConfig.model_validate({"mode": mode}), readable) == (needed, reason)


def test_the_loss_is_the_same_packed_and_plain(
    tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_tiny(tiny_llama)
    samples = [
        *sum_samples[:3],
        Sample(id="long", input="A longer one: 17 + 5?", solution="17 + 5\n#### 22", answer="22"),
    ]
    found = []
    for packed in (True, False):
        monkeypatch.setattr(warm_up_module, "supports_shared_prefix", lambda _, packed=packed: packed)
        policy.model.zero_grad()
        loss = supervised_loss(policy.model, policy.encoder, samples)
        loss.backward()
        found.append((loss.item(), torch.cat([each.grad.flatten() for each in policy.model.parameters()])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    assert (found[0][1] - found[1][1]).norm() / found[1][1].norm() < 1e-4
    # the mean over tokens, by hand: each solution alone, weighed by its tokens and its end
    alone = [supervised_loss(policy.model, policy.encoder, [sample]).item() for sample in samples]
    tokens = [len(sample.solution) + 1 for sample in samples]
    mean = sum(one * count for one, count in zip(alone, tokens, strict=True)) / sum(tokens)
    assert found[0][0] == pytest.approx(mean, rel=1e-4)


def test_it_learns_the_form_and_stops_as_soon_as_enough_can_be_read(
    tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], sums_verifier: Verifier
) -> None:
    policy = load_tiny(tiny_llama, max_new_tokens=12)
    before = supervised_loss(policy.model, policy.encoder, sum_samples).item()
    config = WarmUpConfig(
        learning_rate=5e-3, max_steps=150, check_every=10, probe_samples=4, batch=8, stop_at_readable=0.75
    )
    record = warm_up_policy(
        policy, sum_samples, config, readable_before=0.0, reason="few", verifier=sums_verifier, seed=0
    )
    assert supervised_loss(policy.model, policy.encoder, sum_samples).item() < before / 2
    assert (record.done, record.reason, record.readable_before) == (True, "few", 0.0)
    assert record.steps < 150
    assert record.readable_after is not None
    assert record.readable_after >= 0.75
    assert [check.step for check in record.checks] == list(range(10, record.steps + 1, 10))
    assert all(check.readable is not None and check.readable < 0.75 for check in record.checks[:-1])
    assert record.checks[-1].loss < record.checks[0].loss
    assert not policy.model.training


def test_it_ends_at_its_last_step_and_looks_there(
    tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], sums_verifier: Verifier
) -> None:
    config = WarmUpConfig(learning_rate=1e-6, max_steps=3, check_every=2, probe_samples=4)
    record = warm_up_policy(
        load_tiny(tiny_llama), sum_samples, config, readable_before=None, reason="asked", verifier=sums_verifier, seed=0
    )
    assert record.steps == 3
    assert [check.step for check in record.checks] == [2, 3]


def test_fewer_samples_than_the_probe_takes_are_lessons_too(
    tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], sums_verifier: Verifier
) -> None:
    config = WarmUpConfig(max_steps=1, probe_samples=32)
    record = warm_up_policy(
        load_tiny(tiny_llama),
        sum_samples[:2],
        config,
        readable_before=0.0,
        reason="few",
        verifier=sums_verifier,
        seed=0,
    )
    assert record.steps == 1
