"""Where memory ends: one message with the sizes in use and those that would fit, on GPUs and CPUs alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taskdef.errors import OutOfMemory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch's RuntimeErrors say: its CPU allocator and CUDA's libraries have no class of their own for it."""

_NEARLY_ALL = 0.9
"""Share of memory from which on a model's own tensors leave no room worth having."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ended: CUDA's, torch's on a CPU, or Python's."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


@contextmanager
def memory_ends(explain: Callable[[], tuple[str, dict[str, object]]]) -> Iterator[None]:
    """Raises OutOfMemory in place of any exception that says so; ``explain`` gives what was being done, with its sizes,
    and the settings that would fit."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        doing, settings = explain()
        raise OutOfMemory(f"out of memory while {doing} ({_first_sentence(error)})", settings=settings) from error


def sampling_sizes(*, sequences: int, longest_prompt: int, max_new_tokens: int) -> tuple[str, dict[str, object]]:
    """What is said of sampling so many sequences at once: half as many would fit, or shorter ones where it was one."""
    width = longest_prompt + max_new_tokens
    doing = f"sampling {sequences:,} completions at once, of up to {width:,} tokens with their prompts"
    if sequences > 1:
        return doing, {"policy.batch_tokens": sequences // 2 * width}
    return doing, {"policy.max_new_tokens": max_new_tokens // 2} if max_new_tokens > 1 else {}


def training_sizes(
    model: PreTrainedModel,
    *,
    micro_batch: int,
    fitting_micro_batch: int,
    adapter: bool,
    reference: bool,
    key: str = "train.micro_batch",
) -> tuple[str, dict[str, object]]:
    """What is said of a pass over ``micro_batch`` sequences, with what a model and its optimizer take by themselves.

    ``fitting_micro_batch`` is the next smaller one that divides the batch. Where a model's own tensors leave no room,
    or single sequences do not fit, LoRA is named in its place.
    """
    own, total = training_bytes(model, adapter=adapter, reference=reference), memory_bytes(model)
    doing = (
        f"training on {micro_batch:,} sequences at once; weights, gradients and optimizer take {_gigabytes(own)} "
        f"of {_gigabytes(total)}, which leaves {_gigabytes(max(0, total - own))} for the pass"
    )
    if micro_batch > 1 and own < _NEARLY_ALL * total:
        return doing, {key: fitting_micro_batch}
    return doing, {} if adapter or not key.startswith("train.") else {"train.adapter": "lora"}


def training_bytes(model: PreTrainedModel, *, adapter: bool, reference: bool) -> int:
    """Bytes of weights, gradients, float32 copies and AdamW's two moments, and of a reference model beside them.

    At their most, in the optimizer's step: its gradients are float32, those of the model are gone one by one.
    """
    import torch

    of_all = sum(each.numel() * each.element_size() for each in model.parameters())
    learned = [each for each in model.parameters() if each.requires_grad and not adapter]
    gradients = sum(4 * each.numel() for each in learned)
    moments = sum(8 * each.numel() for each in learned)
    copies = sum(4 * each.numel() for each in learned if each.dtype is not torch.float32)
    models = 2 if reference and not adapter else 1
    return int(of_all * models + gradients + moments + copies)


def memory_bytes(model: PreTrainedModel) -> int:
    """The memory there is where the model is: the GPU's, or the machine's."""
    import torch

    if model.device.type == "cuda":
        return int(torch.cuda.get_device_properties(model.device).total_memory)
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _first_sentence(error: Any) -> str:
    """What the allocator said, on one line: how much it was asked for."""
    text = " ".join(str(error).split())
    asked = text.find("ried to allocate")
    if asked < 0:
        return text[:120] or type(error).__name__
    return "t" + text[asked:].split(". ")[0]
