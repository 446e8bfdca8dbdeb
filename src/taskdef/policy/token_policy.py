"""What policies have in common that are prompted with tokens of a tokenizer, whatever samples them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from taskdef.config import PolicyConfig
from taskdef.policy.prompting import PromptEncoder, prompt_limit
from taskdef.records import Completion, TaskDefinition


class TokenPolicy(ABC):
    """A ``policy.protocol.PrefixPolicy`` but for the sampling itself."""

    def __init__(
        self,
        name: str,
        tokenizer: PreTrainedTokenizerBase,
        definition: TaskDefinition,
        config: PolicyConfig,
        *,
        stop_ids: frozenset[int],
        context: int | None,
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.config = config
        self.encoder = PromptEncoder(definition, tokenizer, config.prompt)
        self.stop_ids = stop_ids
        self.context = context

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
        prompts = [[*self.prompt_ids(sample_input), *ids] for sample_input, ids in prefixes]
        return self.continue_tokens(prompts, left, count=count, temperature=temperature, seed=seed)

    @abstractmethod
    def continue_tokens(
        self, prompts: Sequence[list[int]], limits: Sequence[int], *, count: int, temperature: float, seed: int
    ) -> list[list[list[int]]]:
        """``count`` continuations of each prompt, each of at most the prompt's own limit in tokens.

        A continuation that ended by itself includes its stop token. Shape: len(prompts) x count x (length of each).
        """

    def prompt_ids(self, sample_input: str) -> list[int]:
        return self.encoder.prompt_ids(sample_input)

    def as_completion(self, ids: list[int]) -> Completion:
        """Tokens of one continuation as a record."""
        return Completion(
            text=self.encoder.decode(ids),
            token_count=len(ids),
            truncated=not ids or ids[-1] not in self.stop_ids,
        )
