"""A Hugging Face causal model as a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from taskdef.config import PolicyConfig
from taskdef.policy.sampling import sample_in_batches
from taskdef.policy.token_policy import TokenPolicy
from taskdef.records import TaskDefinition


class TransformersPolicy(TokenPolicy):
    """Samples a model on a task's prompts (see ``policy.protocol.Policy``)."""

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        definition: TaskDefinition,
        config: PolicyConfig,
    ) -> None:
        super().__init__(
            name,
            tokenizer,
            definition,
            config,
            stop_ids=stop_token_ids(model, tokenizer),
            context=context_of(model.config),
        )
        self.model = model

    def continue_tokens(
        self, prompts: Sequence[list[int]], limits: Sequence[int], *, count: int, temperature: float, seed: int
    ) -> list[list[list[int]]]:
        sampled = sample_in_batches(
            self.model,
            prompts,
            count=count,
            max_new_tokens=max(limits, default=0),
            temperature=temperature,
            stop_ids=self.stop_ids,
            pad_id=int(self.tokenizer.pad_token_id),
            generator=torch.Generator(device=self.model.device).manual_seed(seed),
            batch_tokens=self.config.batch_tokens,
        )
        return [[ids[:limit] for ids in group] for group, limit in zip(sampled, limits, strict=True)]


def context_of(config: PretrainedConfig) -> int | None:
    """Tokens that the model's positions reach; None where its config names no bound."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 0) or None


def stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends a completion: the tokenizer's end of sequence and those of the generation config."""
    return stop_ids_of(model.generation_config, tokenizer)


def stop_ids_of(generation: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The same from a generation config."""
    configured = getattr(generation, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in [*ids, tokenizer.eos_token_id] if token is not None)
