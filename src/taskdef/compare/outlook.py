"""What a comparison will take, before anything is spent: the matrix, calls, tokens, and hours on a GPU.

Counts follow from the settings and are upper bounds where chance decides, but for those named expected. Tokens and hours
need figures that no setting gives; they are printed with what they were reckoned from, and can be given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

from taskdef.compare.comparison import Comparison
from taskdef.compare.matrix import Cell
from taskdef.config import RunConfig
from taskdef.errors import ConfigError
from taskdef.plan import Estimate, estimate
from taskdef.records import Stage
from taskdef.sharing import PARTS
from taskdef.store import STAGES, RunDirectory

_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Assumptions:
    """Figures that hours and tokens are reckoned from; none was measured for the models of a plan."""

    tokens_read_a_call: float = 900
    """A prompt to write a sample: the instructions, and a passage of 2,048 characters."""
    tokens_written_a_call: float = 350
    """A sample with its solution; an answer to a question is taken to be as long."""
    tokens_read_a_vote: float = 200
    """A question with the instructions to answer it."""
    prompt_tokens: float = 150
    """Of the base model."""
    response_tokens: float = 300
    """Mean completion of the base model; no more than policy.max_new_tokens."""
    billion_parameters: float = 0
    """0: as the base model's name says (7B)."""
    decoding_steps_a_second: float = 30
    """Of transformers, one token for every sequence of the batch: overhead and weights read, whichever is slower."""
    bytes_a_second: float = 2e12
    """At which weights are read while decoding; about 60% of an H100's memory bandwidth."""
    training_flops: float = 1.5e14
    """Reached in training: about 15% of an H100's bf16 peak."""

    @classmethod
    def given(cls, pairs: Sequence[str]) -> Assumptions:
        """``response_tokens=200`` texts on top of the defaults. Raises ConfigError."""
        known = [one.name for one in fields(cls)]
        values: dict[str, float] = {}
        for pair in pairs:
            key, _, text = pair.partition("=")
            try:
                values[key.strip()] = float(text)
            except ValueError:
                raise ConfigError(f"--assume {pair}: expected KEY=NUMBER", next_step=f"keys: {', '.join(known)}") from None
            if key.strip() not in known or float(text) < 0:
                raise ConfigError(f"--assume {pair}: no such key, or below 0", next_step=f"keys: {', '.join(known)}")
        return replace(cls(), **values)


@dataclass(frozen=True)
class Work:
    """What some stages will take."""

    calls: float = 0
    """Instructor calls where no draft is dropped: every vote counts as one."""
    most_calls: float = 0
    tokens_read: float = 0
    tokens_written: float = 0
    completions: float = 0
    """Of the base model, at most."""
    sampled: float = 0
    """Their tokens."""
    trained: float = 0
    """Tokens learned from, prompts included."""
    hours: float | None = 0.0
    """On one GPU; None where the model's size is not known."""

    def __add__(self, other: Work) -> Work:
        hours = None if self.hours is None or other.hours is None else self.hours + other.hours
        sums = {one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self) if one.name != "hours"}
        return Work(**sums, hours=hours)


Source: TypeAlias = Mapping[Stage, str]
"""Where each stage of a run comes from: empty where it is computed, else the run that has it, or ``done``."""
