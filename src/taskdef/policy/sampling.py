"""Sampling many completions of the same prompts: one prefill a prompt, one cache of it for all its completions.

``transformers.generate`` prefills a prompt as often as it has completions, copies the whole cache at every token, and
decodes finished rows until the last one ends. Here a prompt is prefilled once, its completions share its key-value
cache (``branches``), and finished rows leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from transformers import PreTrainedModel

from taskdef.policy.branches import branch_out
from taskdef.policy.memory import memory_ends, sampling_sizes

_COMPACT_BELOW = 0.75
"""Share of unfinished rows under which the batch is compacted; compacting copies the cache, so not at every end."""


def sample_in_batches(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    count: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    stop_ids: frozenset[int],
    pad_id: int,
    generator: torch.Generator,
    batch_tokens: int,
) -> list[list[list[int]]]:
    """``sample_completions`` in batches of at most ``batch_tokens`` positions (one completion at the least).

    Prompts of like length go together, for left padding is work; the order follows from the prompts alone, so equal
    arguments give equal results. Raises OutOfMemory, naming a smaller ``batch_tokens``.
    """
    completions: list[list[list[int]]] = [[] for _ in prompts]
    for batch in batches_by_length([len(prompt) for prompt in prompts], count, max_new_tokens, batch_tokens):
        longest = max(len(prompts[place]) for place in batch)
        # a group that is larger by itself is made in parts, each with a prefill of its own
        at_once = count if len(batch) > 1 else min(count, max(1, batch_tokens // (longest + max_new_tokens)))
        for start in range(0, count, at_once):
            part = min(at_once, count - start)
            sizes = partial(
                sampling_sizes, sequences=len(batch) * part, longest_prompt=longest, max_new_tokens=max_new_tokens
            )
            with memory_ends(sizes):
                sampled = sample_completions(
                    model,
                    [prompts[place] for place in batch],
                    count=part,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    stop_ids=stop_ids,
                    pad_id=pad_id,
                    generator=generator,
                )
            for place, group in zip(batch, sampled, strict=True):
                completions[place] += group
    return completions


def batches_by_length(lengths: Sequence[int], count: int, max_new_tokens: int, batch_tokens: int) -> list[list[int]]:
    """Places of prompts grouped by length so that (longest prompt + response) x rows stays under ``batch_tokens``."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        rows = (len(batches[-1]) + 1) * count if batches else 0
        if batches and rows * (lengths[place] + max_new_tokens) <= batch_tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


@torch.inference_mode()
def sample_completions(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    count: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    stop_ids: frozenset[int],
    pad_id: int,
    generator: torch.Generator,
) -> list[list[list[int]]]:
    """Sample ``count`` continuations of each prompt.

    Returns token ids, shape len(prompts) x count x (length of each continuation); a continuation that ended by itself
    includes its stop token. Temperature 0 is greedy and ignores ``generator``. ``generator`` must live on the model's
    device. All prompts are decoded in one batch: the caller bounds its size.
    """
    branches = branch_out(model, prompts, count, pad_id=pad_id)
    rows = list(range(len(prompts) * count))
    finished = [False] * len(rows)
    outputs: list[list[int]] = [[] for _ in rows]

    for step in range(max_new_tokens):
        tokens = _choose(branches.logits, temperature, top_p, generator)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if not finished[row]:
                outputs[row].append(token)
                finished[row] = token in stop_ids
        alive = [place for place, row in enumerate(rows) if not finished[row]]
        if not alive or step == max_new_tokens - 1:
            break
        if len(alive) < _COMPACT_BELOW * len(rows):
            branches.keep(alive)
            tokens = tokens[torch.tensor(alive, device=tokens.device)]
            rows = [rows[place] for place in alive]
        branches.advance(tokens)
    return [outputs[start : start + count] for start in range(0, len(outputs), count)]


def _choose(logits: torch.Tensor, temperature: float, top_p: float, generator: torch.Generator) -> torch.Tensor:
    """One token a row, by inverting the cumulative distribution at a uniform draw.

    ``torch.multinomial`` draws the same way but takes some forty times as long on a CPU at this vocabulary size.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits / temperature, dim=-1)
    if top_p < 1:
        ordered, indices = probabilities.sort(dim=-1, descending=True)
        # a token stays if the mass before it is under top_p, so the most likely one always stays
        ordered = ordered.masked_fill(ordered.cumsum(dim=-1) - ordered >= top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, indices, ordered)
    cumulative = probabilities.cumsum(dim=-1)
    draw = torch.rand(len(logits), 1, device=logits.device, generator=generator) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, draw, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
