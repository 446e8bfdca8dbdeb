"""Loading a model as a policy: from a folder, the hub, or the built-in copy; CPU or GPU; bf16 where it is fast."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from taskdef.config import PolicyConfig
from taskdef.errors import BaseModelError
from taskdef.hub import find_hub_fault
from taskdef.policy.builtin import BUILTIN_PREFIX, resolve_builtin
from taskdef.policy.memory import memory_ends
from taskdef.records import TaskDefinition

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from taskdef.policy.token_policy import TokenPolicy
    from taskdef.policy.transformers_policy import TransformersPolicy


_MODEL_FILES = ("config.json", "adapter_config.json")


def resolve_model(source: str | Path) -> str:
    """A folder or hub id for ``from_pretrained``. Raises BaseModelError where there is no such model."""
    text = str(source)
    if text.startswith(BUILTIN_PREFIX):
        return str(resolve_builtin(text.removeprefix(BUILTIN_PREFIX)))
    path = Path(text)
    if path.exists() and not any((path / name).exists() for name in _MODEL_FILES):
        raise BaseModelError(
            f"{text}: no config.json there, so it is not a model folder",
            next_step="give the folder that save_pretrained wrote",
        )
    looks_local = text.startswith((".", "/", "~")) or text.count("/") > 1
    if looks_local and not path.exists():
        raise BaseModelError(
            f"{text}: no such folder", next_step=f"give a model folder, a hub id, or {BUILTIN_PREFIX}smollm2-135m"
        )
    if not path.exists():
        _require_on_hub(text)
    return text


def _require_on_hub(model_id: str) -> None:
    """Ask the hub once for a model that no cache holds; from_pretrained would try for most of a minute.

    Raises BaseModelError where the hub cannot be reached or has no such model.
    """
    from huggingface_hub import try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(model_id, name), str) for name in _MODEL_FILES):
        return
    fault = find_hub_fault("model", model_id)
    if fault is None:
        return
    raise BaseModelError(
        f"{model_id}: no such folder, and {fault.reason}",
        next_step=f"give a model folder, a hub id that this machine can reach, or {BUILTIN_PREFIX}smollm2-135m",
    )


def pick_device(config: PolicyConfig) -> torch.device:
    """The device asked for, or the GPU where there is one. Raises BaseModelError where CUDA is asked for in vain,
    or several GPUs are visible: TRL would spread the model over them in a way that rollouts cannot use."""
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise BaseModelError(
            "policy.device is 'cuda', but no CUDA device is visible", next_step="--set policy.device=cpu"
        )
    if config.device != "cpu" and torch.cuda.device_count() > 1:
        raise BaseModelError(
            f"{torch.cuda.device_count()} GPUs are visible, and this version trains on one",
            next_step="CUDA_VISIBLE_DEVICES=0 taskdef run …",
        )
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    return torch.device(chosen)


def pick_dtype(config: PolicyConfig, device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, float32 elsewhere, or what the config says."""
    import torch

    if config.dtype != "auto":
        return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # AVX-512 BF16 or AMX; without either, bf16 on a CPU is emulated and slower than float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def load_model(source: str | Path, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The causal language model. A PEFT adapter folder is merged into its base. Raises BaseModelError; OutOfMemory
    where it does not fit."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # its bars for reading and writing weights would break into taskdef's own
    resolved = resolve_model(source)
    try:
        with memory_ends(lambda: (f"loading {source}", {})):
            if (Path(resolved) / "adapter_config.json").exists():
                from peft import AutoPeftModelForCausalLM

                model = AutoPeftModelForCausalLM.from_pretrained(resolved, dtype=dtype).merge_and_unload()
            else:
                model = AutoModelForCausalLM.from_pretrained(resolved, dtype=dtype)
            loaded: PreTrainedModel = model.to(device)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unloadable(source, error) from error
    return loaded.eval()


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer, with a pad token. Raises BaseModelError."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(resolve_model(source))
    except (OSError, ValueError) as error:
        raise _unloadable(source, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_context(source: str | Path) -> int | None:
    """Tokens in the model's context, from its config alone; None where that names no bound. Raises BaseModelError."""
    from transformers import AutoConfig

    from taskdef.policy.transformers_policy import context_of

    resolved = resolve_model(source)
    adapter = Path(resolved) / "adapter_config.json"
    try:
        if adapter.exists():
            resolved = json.loads(adapter.read_bytes())["base_model_name_or_path"]
        return context_of(AutoConfig.from_pretrained(resolved))
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(source, error) from error


def refuse_unfit_model(
    source: str, definition: TaskDefinition, config: PolicyConfig, rows: Iterable[tuple[str, str]]
) -> None:
    """Find out from config and tokenizer alone whether the model can be used for a task and its held-out rows, given
    as (place, input).

    Raises BaseModelError where it cannot be had, the device asked for neither, or its context has no room for a
    prompt; TestSetError where a row's prompt is too long.
    """
    from taskdef.policy.prompting import PromptEncoder, refuse_long_rows

    pick_device(config)
    encoder = PromptEncoder(definition, load_tokenizer(source), config.prompt)
    refuse_long_rows(rows, encoder, source, load_context(source), config)


def load_policy(source: str | Path, definition: TaskDefinition, config: PolicyConfig) -> TransformersPolicy:
    """A model ready to be sampled on a task. Raises BaseModelError."""
    from taskdef.policy.transformers_policy import TransformersPolicy

    device = pick_device(config)
    tokenizer = load_tokenizer(source)
    model = load_model(source, dtype=pick_dtype(config, device), device=device)
    return TransformersPolicy(str(source), model, tokenizer, definition, config)


def load_sampler(source: str | Path, definition: TaskDefinition, config: PolicyConfig) -> TokenPolicy:
    """A model that is sampled and never trained, by ``policy.sampler``. Raises BaseModelError."""
    if config.sampler == "vllm":
        from taskdef.policy.vllm_policy import load_vllm_policy

        return load_vllm_policy(source, definition, config)
    return load_policy(source, definition, config)


def save_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """An ordinary Hugging Face checkpoint, appearing under its name when complete; replaces what stands there."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(path, ignore_errors=True)
    temporary.rename(path)


def _unloadable(source: str | Path, error: Exception) -> BaseModelError:
    return BaseModelError(
        f"{source}: cannot be loaded as a causal language model: {_first_line(error)}",
        next_step=f"give a model folder, a hub id that this machine can reach, or {BUILTIN_PREFIX}smollm2-135m",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
