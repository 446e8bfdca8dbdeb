"""A Hugging Face causal model as a policy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from taskdef.config import PolicyConfig
from taskdef.errors import BaseModelError
from taskdef.policy.prompting import PromptEncoder
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
        self.context = int(getattr(model.config, "max_position_embeddings", 0)) or None

    def prompt_length(self, sample_input: str) -> int:
        return len(self.encoder.prompt_ids(sample_input))

    def prompt_limit(self) -> int:
        """Longest prompt in tokens that leaves room for a full response. Raises BaseModelError where none does."""
        limit = self.config.max_prompt_tokens
        if self.context is not None:
            if self.context <= self.config.max_new_tokens:
                raise BaseModelError(
                    f"{self.name}: its context of {self.context} tokens has no room for a prompt beside a response of "
                    f"{self.config.max_new_tokens}",
                    next_step=f"--set policy.max_new_tokens={max(1, self.context // 2)}",
                )
            limit = min(limit, self.context - self.config.max_new_tokens)
        return limit

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        prompts = [self.encoder.prompt_ids(sample_input) for sample_input in inputs]
        generator = torch.Generator(device=self.model.device).manual_seed(seed)
        sampled = sample_in_batches(
            self.model,
            prompts,
            count=count,
            max_new_tokens=self.config.max_new_tokens,
            temperature=temperature,
            stop_ids=self.stop_ids,
            pad_id=int(self.tokenizer.pad_token_id),
            generator=generator,
            batch_tokens=self.config.batch_tokens,
        )
        return [[self.as_completion(ids) for ids in group] for group in sampled]

    def as_completion(self, ids: list[int]) -> Completion:
        """Tokens of one continuation as a record."""
        return Completion(
            text=self.encoder.decode(ids),
            token_count=len(ids),
            truncated=not ids or ids[-1] not in self.stop_ids,
        )


def stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends a completion: the tokenizer's end of sequence and those of the generation config."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in [*ids, tokenizer.eos_token_id] if token is not None)
