"""A policy that is a table, so that every chance is known exactly."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from taskdef.records import Completion

STOP = 0
TEXT = {STOP: "", 1: "a,", 2: "b,", 3: "c,", 4: "-,"}


class TabularPolicy:
    """Writes ``depth`` letters and stops. ``table`` gives the chances of the tokens 1, 2 … after a prefix; ``default``
    those after all others. The problem is solved where the last letter is its gold answer."""

    name = "table"
    stop_ids = frozenset({STOP})

    def __init__(
        self,
        table: dict[tuple[int, ...], Sequence[float]],
        *,
        default: Sequence[float] = (0.5, 0.5),
        depth: int = 3,
        limit: int = 4,
    ) -> None:
        self.table = table
        self.default = default
        self.depth = depth
        self.limit = limit
        self.asked: list[list[tuple[int, ...]]] = []
        self.die_after: int | None = None

    def chances(self, prefix: tuple[int, ...]) -> Sequence[float]:
        return self.table.get(prefix, self.default)

    def chance_correct(self, prefix: tuple[int, ...], token: int = 1) -> float:
        """Exact chance that one continuation ends in the letter of ``token``."""
        if len(prefix) == self.depth:
            return float(prefix[-1] == token)
        return sum(
            chance * self.chance_correct((*prefix, number), token)
            for number, chance in enumerate(self.chances(prefix), start=1)
        )

    def continue_prefixes(
        self, prefixes: Sequence[tuple[str, Sequence[int]]], *, count: int, temperature: float, seed: int
    ) -> list[list[list[int]]]:
        if self.die_after == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append([tuple(ids) for _, ids in prefixes])
        draw = random.Random(seed)
        return [[self._continue(tuple(ids), draw) for _ in range(count)] for _, ids in prefixes]

    def _continue(self, prefix: tuple[int, ...], draw: random.Random) -> list[int]:
        ids = prefix
        while len(ids) < self.limit and (not ids or ids[-1] != STOP):
            chances = self.chances(ids)
            ids += (STOP,) if len(ids) == self.depth else tuple(draw.choices(range(1, len(chances) + 1), chances))
        return list(ids[len(prefix) :])

    def as_completion(self, ids: Sequence[int]) -> Completion:
        return Completion(text=self.decode(ids), token_count=len(ids), truncated=not ids or ids[-1] != STOP)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(TEXT[token] for token in ids)

    def prompt_ids(self, sample_input: str) -> list[int]:
        return [ord(letter) for letter in sample_input]

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        groups = self.continue_prefixes([(each, ()) for each in inputs], count=count, temperature=1.0, seed=seed)
        return [[self.as_completion(ids) for ids in group] for group in groups]

    def prompt_length(self, sample_input: str) -> int:
        return len(sample_input)

    def prompt_limit(self) -> int:
        return 100


@pytest.fixture
def tabular() -> Callable[..., TabularPolicy]:
    """Makes a policy: ``tabular({(): (0.5, 0.5), (1,): (0.9, 0.1)}, depth=2)``."""
    return TabularPolicy
