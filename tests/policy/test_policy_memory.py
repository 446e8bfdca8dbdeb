"""Memory ends with one message: what was being done, with its sizes, and the sizes that would fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from taskdef.config import PolicyConfig, WarmUpConfig
from taskdef.errors import OutOfMemory
from taskdef.policy import memory
from taskdef.policy.memory import is_out_of_memory, memory_ends, training_bytes, training_sizes
from taskdef.policy.sampling import sample_in_batches
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.policy.warm_up import warm_up_policy
from taskdef.records import Sample
from taskdef.verify.isolated import Verifier

LoadTiny = Callable[..., TransformersPolicy]

ON_A_GPU = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.2 GiB is free."
)


def on_a_cpu() -> RuntimeError:
    """What torch really raises where the system gives no more."""
    try:
        torch.empty(1 << 60, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("an exabyte was allocated")


@pytest.mark.parametrize("error", [ON_A_GPU, on_a_cpu(), MemoryError()], ids=["gpu", "cpu", "python"])
def test_every_kind_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    with (
        pytest.raises(OutOfMemory, match=r"^out of memory while testing \(.+\)\n  next: a smaller base_model"),
        memory_ends(lambda: ("testing", {})),
    ):
        raise error


def test_other_faults_stay_what_they_are() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"), memory_ends(lambda: ("testing", {})):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def failing(policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch, error: Exception, above: int = 0) -> list[int]:
    """The model raises for more than ``above`` rows; gives the rows of each forward pass."""
    seen: list[int] = []
    forward = policy.model.forward

    def fail(*arguments: Any, **named: Any) -> Any:
        rows = len(named["input_ids"])
        seen.append(rows)
        if rows > above:
            raise error
        return forward(*arguments, **named)

    monkeypatch.setattr(policy.model, "forward", fail)
    return seen


def sample(policy: TransformersPolicy, prompts: Sequence[Sequence[int]], count: int, batch_tokens: int) -> Any:
    return sample_in_batches(
        policy.model,
        prompts,
        count=count,
        max_new_tokens=6,
        temperature=1.0,
        stop_ids=frozenset(),
        pad_id=0,
        generator=torch.Generator().manual_seed(0),
        batch_tokens=batch_tokens,
    )


def test_sampling_names_half_of_what_was_sampled_at_once(
    tiny_llama: Path, load_tiny: LoadTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_tiny(tiny_llama)
    failing(policy, monkeypatch, ON_A_GPU)
    with pytest.raises(OutOfMemory) as caught:
        sample(policy, [[5, 6, 7], [8]], count=8, batch_tokens=1000)
    assert caught.value.message == (
        "out of memory while sampling 16 completions at once, of up to 9 tokens with their prompts "
        "(tried to allocate 2.50 GiB)"
    )
    assert caught.value.next_step == "--set policy.batch_tokens=72"  # 8 completions of 9 tokens


def test_the_size_that_is_named_fits_and_halving_ends_at_one_completion(
    tiny_llama: Path, load_tiny: LoadTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_tiny(tiny_llama)
    seen = failing(policy, monkeypatch, on_a_cpu(), above=3)
    size, tries = 1000, 0
    while tries < 10:
        try:
            groups = sample(policy, [[5, 6, 7], [8]], count=8, batch_tokens=size)
            break
        except OutOfMemory as fault:
            size, tries = int(str(fault.settings["policy.batch_tokens"])), tries + 1
    assert (size, tries) == (14, 3)  # from 16 at once to 8, 4, 2 of the shorter prompt's 7 tokens
    assert [[len(ids) for ids in group] for group in groups] == [[6] * 8] * 2
    assert max(seen[-12:]) <= 2
    failing(policy, monkeypatch, ON_A_GPU)
    with pytest.raises(OutOfMemory) as caught:
        sample(policy, [[5, 6, 7]], count=8, batch_tokens=1)
    assert caught.value.settings == {"policy.max_new_tokens": 3}


def test_scoring_says_so_too(tiny_llama: Path, load_tiny: LoadTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_tiny(tiny_llama)
    failing(policy, monkeypatch, MemoryError())
    with pytest.raises(OutOfMemory, match=r"sampling 4 completions .* \(MemoryError\)"):
        policy.complete(["1 + 1?"], count=4, temperature=1.0, seed=0)


def test_a_model_that_does_not_fit_is_named(
    tiny_llama: Path, load_tiny: LoadTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ON_A_GPU

    monkeypatch.setattr(torch.nn.Module, "to", fail)
    with pytest.raises(OutOfMemory, match=rf"while loading {tiny_llama} \(.+\)\n  next: a smaller base_model"):
        load_tiny(tiny_llama)


def test_the_warm_up_names_half_its_batch(
    tiny_llama: Path,
    load_tiny: LoadTiny,
    sum_samples: list[Sample],
    sums_verifier: Verifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = load_tiny(tiny_llama)

    def fail(*_: Any, **__: Any) -> None:
        raise ON_A_GPU

    monkeypatch.setattr(policy.model.get_decoder(), "forward", fail)
    with pytest.raises(OutOfMemory) as caught:
        warm_up_policy(
            policy,
            sum_samples,
            WarmUpConfig(batch=8, probe_samples=2),
            readable_before=0.0,
            reason="",
            verifier=sums_verifier,
            seed=0,
        )
    assert caught.value.message.startswith("out of memory while training on 8 sequences at once; weights, gradients")
    assert caught.value.settings == {"warm_up.batch": 4}


def test_training_names_lora_where_the_model_itself_leaves_no_room(
    tiny_llama: Path, load_tiny: LoadTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny(tiny_llama).model
    weights = sum(each.numel() for each in model.parameters())
    # float32: 4 bytes of weight, 4 of gradient, 8 of moments; and 4 of the reference model
    assert training_bytes(model, adapter=False, reference=True) == 20 * weights
    assert training_bytes(model, adapter=True, reference=True) == 4 * weights
    assert (
        training_bytes(model.bfloat16(), adapter=False, reference=False) == 18 * weights
    )  # 2 + 4 copied + 4 gradient + 8

    def named(total: int, micro_batch: int, *, adapter: bool = False) -> dict[str, object]:
        monkeypatch.setattr(memory, "memory_bytes", lambda _: total)
        sizes = {"micro_batch": micro_batch, "fitting_micro_batch": micro_batch // 2, "reference": False}
        return training_sizes(model, adapter=adapter, **sizes)[1]

    assert named(160 * weights, 8) == {"train.micro_batch": 4}
    assert named(17 * weights, 8) == {"train.adapter": "lora"}
    assert named(160 * weights, 1) == {"train.adapter": "lora"}
    assert named(160 * weights, 1, adapter=True) == {}
    fault = OutOfMemory("out of memory", settings={})
    assert fault.next_step == "a smaller base_model, or a machine with more memory"


def test_what_remains_is_told(tiny_llama: Path, load_tiny: LoadTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny(tiny_llama, **PolicyConfig().model_dump(include={"prompt"})).model
    monkeypatch.setattr(memory, "memory_bytes", lambda _: 8 << 30)
    monkeypatch.setattr(memory, "training_bytes", lambda *_, **__: 3 << 30)
    doing, settings = training_sizes(model, micro_batch=16, fitting_micro_batch=8, adapter=False, reference=True)
    assert doing == (
        "training on 16 sequences at once; weights, gradients and optimizer take 3.0 GiB of 8.0 GiB, "
        "which leaves 5.0 GiB for the pass"
    )
    assert settings == {"train.micro_batch": 8}
