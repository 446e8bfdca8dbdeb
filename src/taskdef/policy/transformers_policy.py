"""A Hugging Face causal model as a policy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from taskdef.config import PolicyConfig
from taskdef.policy.prompting import PromptEncoder, prompt_limit
from taskdef.policy.sampling import sample_in_batches
from taskdef.records import Completion, TaskDefinition


class TransformersPolicy:
    """Samples a model on a task's prompts (see ``policy.protocol.Policy``)."""

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        definition: TaskDefinition,
        config: PolicyConfig,
    ) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.encoder = PromptEncoder(definition, tokenizer, config.prompt)
        self.stop_ids = stop_token_ids(model, tokenizer)
        self.context = context_of(model.config)

    def prompt_length(self, sample_input: str) -> int:
        return len(self.prompt_ids(sample_input))

    def prompt_limit(self) -> int:
        """Longest prompt in tokens that leaves room for a full response. Raises BaseModelError where none does."""
        return prompt_limit(self.name, self.context, self.config)

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        sampled = self.continue_prefixes(
            [(sample_input, ()) for sample_input in inputs], count=count, temperature=temperature, seed=seed
        )
        return [[self.as_completion(ids) for ids in group] for group in sampled]

    def continue_prefixes(
        self, prefixes: Sequence[tuple[str, Sequence[int]]], *, count: int, temperature: float, seed: int
    ) -> list[list[list[int]]]:
        left = [self.config.max_new_tokens - len(ids) for _, ids in prefixes]
        if prefixes and min(left) < 1:
            raise ValueError(f"a prefix has reached the response limit of {self.config.max_new_tokens} tokens")
        sampled = sample_in_batches(
            self.model,
            [[*self.prompt_ids(sample_input), *ids] for sample_input, ids in prefixes],
            count=count,
            max_new_tokens=max(left, default=0),
            temperature=temperature,
            stop_ids=self.stop_ids,
            pad_id=int(self.tokenizer.pad_token_id),
            generator=torch.Generator(device=self.model.device).manual_seed(seed),
            batch_tokens=self.config.batch_tokens,
        )
        return [[ids[:limit] for ids in group] for group, limit in zip(sampled, left, strict=True)]

    def prompt_ids(self, sample_input: str) -> list[int]:
        return self.encoder.prompt_ids(sample_input)

    def as_completion(self, ids: list[int]) -> Completion:
        """Tokens of one continuation as a record."""
        return Completion(
            text=self.encoder.decode(ids),
            token_count=len(ids),
            truncated=not ids or ids[-1] not in self.stop_ids,
        )


def context_of(config: PretrainedConfig) -> int | None:
    """Tokens that the model's positions reach; None where its config names no bound."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 0) or None


def stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends a completion: the tokenizer's end of sequence and those of the generation config."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in [*ids, tokenizer.eos_token_id] if token is not None)
