"""What the base model writes, measured while a preview samples it: lengths, speed, and what the response limit cuts.

A limit that cuts most answers makes every verdict TRUNCATED and every group zero-signal, and nothing else in a run
looks wrong; so it is measured before anything is paid for at scale.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from taskdef.config import RunConfig
from taskdef.policy.attempts import CHUNK_COMPLETIONS
from taskdef.policy.protocol import Policy
from taskdef.records import Completion

CUT_WORTH_A_WARNING = 0.05
"""Share of completions at the limit from which a larger one is advised: a few ramblers are no reason."""
_CUT_AT_LEAST = 2
"""A single completion is no share."""
_LEAST_ADAPTIVE = 4
"""Attempts that adaptive scoring makes on every sample at the least."""


@dataclass
class Lengths:
    """Completions of one model at one limit."""

    limit: int
    tokens: list[int] = field(default_factory=list)
    cut: int = 0
    """Completions that the limit ended."""
    longest_prompt: int = 0
    batches: list[tuple[int, int, float]] = field(default_factory=list)
    """(completions, tokens, seconds) of each call."""

    @property
    def cut_share(self) -> float:
        return self.cut / len(self.tokens) if self.tokens else 0.0

    @property
    def tokens_a_second(self) -> float | None:
        """Of the largest batch; None where nothing was sampled."""
        rows = max((batch[0] for batch in self.batches), default=0)
        largest = [batch for batch in self.batches if batch[0] == rows]
        seconds = sum(batch[2] for batch in largest)
        return sum(batch[1] for batch in largest) / seconds if seconds else None

    def text(self) -> str:
        """``completions 25: median 41 tokens, 95% within 120, longest 128; 2 reached the limit of 128``."""
        if not self.tokens:
            return "no completion was sampled"
        ordered = sorted(self.tokens)
        high = ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)]
        return (
            f"completions {len(ordered)}: median {statistics.median(ordered):.0f} tokens, 95% within {high}, "
            f"longest {ordered[-1]}; {self.cut} reached the limit of {self.limit} ({self.cut_share:.0%})"
        )

    def warning(self, context: int | None) -> str:
        """What to change where the limit cuts answers; empty where it does not. ``context``: tokens, None: no bound."""
        if self.cut < _CUT_AT_LEAST or self.cut_share <= CUT_WORTH_A_WARNING:
            return ""
        found = (
            f"the response limit cuts {self.cut} of {len(self.tokens)} completions ({self.cut_share:.0%}); "
            f"an answer that is cut off counts as TRUNCATED in scoring, training and evaluation alike"
        )
        room = math.inf if context is None else context - self.longest_prompt
        if room <= self.limit:
            return f"{found}\nnext: a base model with more context than {context} tokens leaves room for longer ones"
        longer = int(min(2 * self.limit, room))
        return (
            f"{found}\nnext: --set policy.max_new_tokens={longer}, and preview again to see whether they end there "
            "(the instructor is not asked anew)"
        )


class MeasuredPolicy:
    """A policy that notes what it writes and how long that takes (see ``policy.protocol.Policy``)."""

    def __init__(self, policy: Policy, limit: int) -> None:
        self.name = policy.name
        self.lengths = Lengths(limit)
        self._policy = policy

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        started = time.monotonic()
        groups = self._policy.complete(inputs, count=count, temperature=temperature, seed=seed)
        seconds = time.monotonic() - started
        completions = [completion for group in groups for completion in group]
        lengths = self.lengths
        lengths.tokens += [completion.token_count for completion in completions]
        lengths.cut += sum(completion.truncated for completion in completions)
        lengths.longest_prompt = max([lengths.longest_prompt, *map(self.prompt_length, inputs)])
        lengths.batches.append((len(completions), sum(each.token_count for each in completions), seconds))
        return groups

    def prompt_length(self, sample_input: str) -> int:
        return self._policy.prompt_length(sample_input)

    def prompt_limit(self) -> int:
        return self._policy.prompt_limit()


@dataclass(frozen=True)
class Sampling:
    """Completions of the base model and its successors in the full run, and how long decoding them takes."""

    fewest: float
    most: float
    least_seconds: float
    """If a batch of the run's size decoded in the time of the preview's."""
    most_seconds: float
    """If every batch decoded as slowly as the preview's small ones."""


def project_sampling(
    lengths: Lengths, config: RunConfig, *, samples: tuple[float, float], pool: tuple[float, float], test_rows: int
) -> Sampling | None:
    """Bounds for the full run from the bounds of its samples and its pool; None where nothing was measured.

    Lengths are taken to stay as measured. The passes of training over the rollouts, and the warm-up, are not in it.
    """
    speed = lengths.tokens_a_second
    if speed is None:
        return None
    warm_up, select, train = config.warm_up.mode, config.select, config.train
    fewest = most = 0.0
    for place, (kept, pooled) in enumerate(zip(samples, pool, strict=True)):
        greedy = kept * (1 if warm_up == "never" or (warm_up == "auto" and place == 0) else 2)
        adaptive = select.rollouts == "adaptive" and place == 0
        scoring = pooled * (min(_LEAST_ADAPTIVE, select.most_attempts) if adaptive else select.most_attempts)
        chosen = round(pooled if select.strategy == "all" else min(select.size, pooled))
        rollouts = train.steps(chosen) * min(train.batch, max(1, chosen)) * train.completions
        evaluated = test_rows * (2 if warm_up == "never" or (warm_up == "auto" and place == 0) else 3)
        total = greedy + scoring + rollouts + evaluated
        fewest, most = (total, most) if place == 0 else (fewest, total)
    tokens = statistics.fmean(lengths.tokens)
    measured_rows = max(batch[0] for batch in lengths.batches)
    fitting = config.policy.batch_tokens // (lengths.longest_prompt + lengths.limit)
    rows = max(measured_rows, min(CHUNK_COMPLETIONS, fitting))
    return Sampling(fewest, most, fewest * tokens / speed * measured_rows / rows, most * tokens / speed)
