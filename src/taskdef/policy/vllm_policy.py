"""A model sampled by vLLM (extra ``vllm``), in a process of vLLM's own, beside which nothing is trained.

Paged attention and continuous batching: worth it for long responses on GPUs. For scoring and evaluation; what trains a
model needs its weights at hand and samples them itself (``TransformersPolicy``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskdef.config import PolicyConfig
from taskdef.errors import BaseModelError
from taskdef.policy.attempts import derived_seed
from taskdef.policy.load import load_tokenizer, pick_device, pick_dtype, resolve_model
from taskdef.policy.token_policy import TokenPolicy
from taskdef.policy.transformers_policy import context_of, stop_ids_of
from taskdef.records import TaskDefinition

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_OWN_SAMPLER = "--set policy.sampler=own"
_PREFILLED_AT_ONCE = 4096
"""Prompt tokens of one step of vLLM on a CPU, where no prompt may be longer: its own default there."""


class VllmPolicy(TokenPolicy):
    """Samples through a ``vllm.LLM`` (see ``policy.protocol.PrefixPolicy``)."""

    def __init__(self, engine: Any, name: str, tokenizer: PreTrainedTokenizerBase, *rest: Any, **named: Any) -> None:
        super().__init__(name, tokenizer, *rest, **named)
        self.engine = engine

    def continue_tokens(
        self, prompts: Sequence[list[int]], limits: Sequence[int], *, count: int, temperature: float, seed: int
    ) -> list[list[list[int]]]:
        from vllm import SamplingParams

        # A seed a prompt: what is drawn for it then depends neither on the prompts beside it nor on what came before.
        # vLLM adds a completion's number to it, so seeds must be far apart.
        settings = [
            SamplingParams(
                n=count,
                temperature=temperature,
                max_tokens=limit,
                seed=derived_seed(seed, place),
                stop_token_ids=sorted(self.stop_ids),
                detokenize=False,
            )
            for place, limit in enumerate(limits)
        ]
        outputs = self.engine.generate([{"prompt_token_ids": ids} for ids in prompts], settings, use_tqdm=False)
        return [
            [list(one.token_ids) for one in sorted(output.outputs, key=lambda one: int(one.index))]
            for output in outputs
        ]


def load_vllm_policy(source: str | Path, definition: TaskDefinition, config: PolicyConfig) -> VllmPolicy:
    """A model started in vLLM. Raises BaseModelError where vLLM is missing, or cannot load or serve the model."""
    try:
        from vllm import LLM
    except ImportError as error:
        raise BaseModelError(
            f"policy.sampler is 'vllm', but vLLM cannot be imported: {error}",
            next_step=f"install it as docs/gpu.md says, or {_OWN_SAMPLER}",
        ) from error
    from transformers import AutoConfig, GenerationConfig

    folder = resolve_model(source)
    if (Path(folder) / "adapter_config.json").exists():
        raise BaseModelError(
            f"{source}: an adapter, which policy.sampler=vllm does not load",
            next_step=f"merge it into its base model, or {_OWN_SAMPLER}",
        )
    device = pick_device(config)
    tokenizer = load_tokenizer(source)
    try:
        model_config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise _unusable(source, error) from error
    try:
        generation = GenerationConfig.from_pretrained(folder)
    except OSError:  # many models have none; their config names what ends a sequence
        generation = GenerationConfig.from_model_config(model_config)
    context = context_of(model_config)
    wanted = config.max_prompt_tokens + config.max_new_tokens
    length = min(wanted, context) if context is not None else wanted
    on_cpu: dict[str, Any] = {}
    if device.type == "cpu":
        on_cpu = {
            # by default it takes nearly all of the machine's memory, as on a GPU of its own
            "kv_cache_memory_bytes": cache_bytes(model_config, max(config.batch_tokens, length)),
            # where a prompt is prefilled in parts, it takes back draws of seeded generators, which those of CPUs refuse
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(_PREFILLED_AT_ONCE, length),
        }
    try:
        engine = LLM(
            folder, dtype=str(pick_dtype(config, device)).removeprefix("torch."), max_model_len=length, **on_cpu
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise _unusable(source, error) from error
    return VllmPolicy(
        engine,
        str(source),
        tokenizer,
        definition,
        config,
        stop_ids=stop_ids_of(generation, tokenizer),
        context=context,
    )


def cache_bytes(config: PretrainedConfig, positions: int) -> int:
    """Bytes of keys and values of that many positions, two bytes a number."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * 2 * text.num_hidden_layers * heads * size * positions)


def _unusable(source: str | Path, error: Exception) -> BaseModelError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return BaseModelError(f"{source}: vLLM cannot serve it: {lines[0]}", next_step=_OWN_SAMPLER)
