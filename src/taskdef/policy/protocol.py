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
