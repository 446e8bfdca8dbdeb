"""What every policy can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from taskdef.records import Completion


class Policy(Protocol):
    """A model that continues task prompts."""

    name: str

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        """``count`` completions for each task input (a sample's ``input``, not a finished prompt).

        Temperature 0 is greedy (``count`` must be 1). The same inputs, settings and seed give the same completions
        on the same machine. Shape: len(inputs) x count.
        """
        ...

    def prompt_length(self, sample_input: str) -> int:
        """Tokens of the finished prompt for an input."""
        ...

    def prompt_limit(self) -> int:
        """Longest prompt, in tokens, that leaves room for a full response."""
        ...


class PrefixPolicy(Policy, Protocol):
    """A policy that can also go on from the middle of a response, given as tokens."""

    stop_ids: frozenset[int]
    """Every token that ends a response."""

    def continue_prefixes(
        self, prefixes: Sequence[tuple[str, Sequence[int]]], *, count: int, temperature: float, seed: int
    ) -> list[list[list[int]]]:
        """``count`` continuations, in tokens, of each (task input, first tokens of a response).

        An empty prefix is the start of a response. What is left of the response limit bounds a continuation; one that
        ended by itself includes its stop token. Raises ValueError for a prefix that has reached the limit.
        Shape: len(prefixes) x count x (length of each continuation).
        """
        ...

    def prompt_ids(self, sample_input: str) -> list[int]:
        """Tokens of the finished prompt for an input."""
        ...

    def as_completion(self, ids: list[int]) -> Completion:
        """A whole response in tokens as a record."""
        ...
