"""Decoding many completions of each prompt from one prefill of the prompt.

``SharedBranches`` keeps a prompt's keys and values once, however many completions it has: a step attends to them for
all of a prompt's completions in one product, and to each completion's own tokens apart; one softmax goes over both.
Nothing of the prompt is copied, neither when the cache branches nor when it grows. ``CopiedBranches`` repeats the cache
for every completion; it does for any model that transformers' own cache serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers import DynamicCache, PreTrainedModel

from taskdef.policy.tree_attention import TREE_ATTENTION, supports_tree_attention

_GROWTH = 64
"""Places by which a completion's own cache grows: its copies become rare without room for the longest response."""


class Branches(Protocol):
    """Completions under way, one a row; at first ``count`` rows a prompt, in the order of the prompts."""

    logits: torch.Tensor
    """Rows x vocabulary in float32: what comes next."""

    def advance(self, tokens: torch.Tensor) -> None:
        """Append one token to each row."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only (their places, in order)."""
        ...


def branch_out(model: PreTrainedModel, prompts: Sequence[Sequence[int]], count: int, *, pad_id: int) -> Branches:
    """Prefill each prompt once and branch it into ``count`` completions."""
    if count > 1 and supports_tree_attention(model):
        return SharedBranches(model, prompts, count, pad_id=pad_id)
    return CopiedBranches(model, prompts, count, pad_id=pad_id)


class CopiedBranches:
    """Every row has a cache of its own."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], count: int, *, pad_id: int) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.config)
        self.logits, mask = _prefill(model, prompts, self._cache, pad_id)
        if count > 1:
            self.logits = self.logits.repeat_interleave(count, dim=0)
            self._cache.batch_repeat_interleave(count)
        self._mask = mask.repeat_interleave(count, dim=0)
        self._position = self._mask.sum(dim=1, keepdim=True)

    def advance(self, tokens: torch.Tensor) -> None:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self.logits = _next_logits(
            self._model,
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._position,
            past_key_values=self._cache,
        )
        self._position = self._position + 1

    def keep(self, rows: Sequence[int]) -> None:
        kept = torch.tensor(rows, device=self._model.device)
        self._cache.batch_select_indices(kept)
        self.logits, self._mask, self._position = self.logits[kept], self._mask[kept], self._position[kept]


class SharedBranches:
    """Rows of one prompt share its cache.

    R rows of B prompts with P places; K key-value heads, each with g query heads; head size D; T own tokens so far.
    It stands in for transformers' cache (``update``) and, as a ``tree_attention.Tree``, for the attention of a step.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], count: int, *, pad_id: int) -> None:
        self._model = model
        cache = DynamicCache()  # of no config: sliding layers keep all of the prompt too, and windows are masks
        logits, mask = _prefill(model, prompts, cache, pad_id)
        model.config.get_text_config()._attn_implementation = TREE_ATTENTION
        self.logits = logits.repeat_interleave(count, dim=0)
        self._prompt_keys = [layer.keys for layer in cache.layers]
        """By layer, B x K x P x D."""
        self._prompt_values = [layer.values for layer in cache.layers]
        self._prompt_mask = mask.bool()
        """B x P, False on padding, which is on the left."""
        self._own_keys: list[torch.Tensor | None] = [None] * len(cache.layers)
        """By layer, R x K x (room for T) x D."""
        self._own_values: list[torch.Tensor | None] = [None] * len(cache.layers)
        self._length = 0
        """T, without the token of the step under way."""
        self._group = torch.arange(len(prompts), device=model.device).repeat_interleave(count)
        """The prompt of each row."""
        self._first = self._prompt_mask.sum(dim=1)[self._group]
        """Position of each row's first own token."""
        self._hidden: dict[int | None, torch.Tensor | None] = {}
        """Of the step under way, by window: R x (P + T + 1), True where a row does not see; None where it sees all."""
        self._arrange()

    def advance(self, tokens: torch.Tensor) -> None:
        self._hidden = {}
        self.logits = _next_logits(
            self._model,
            input_ids=tokens[:, None],
            attention_mask=torch.zeros(1, 1, 1, 1, device=tokens.device),  # unused, but taken for a finished mask
            position_ids=(self._first + self._length)[:, None],
            past_key_values=self,
            tree=self,
        )
        self._length += 1

    def keep(self, rows: Sequence[int]) -> None:
        kept = torch.tensor(rows, device=self.logits.device)
        self.logits, self._first = self.logits[kept], self._first[kept]
        rows_left = self._group[kept].bincount(minlength=len(self._prompt_mask))
        alive = rows_left.nonzero()[:, 0]
        self._group = ((rows_left > 0).cumsum(0) - 1)[self._group[kept]]
        if len(alive) < len(self._prompt_mask):
            self._prompt_mask = self._prompt_mask[alive]
            for cached in (self._prompt_keys, self._prompt_values):
                for layer, tensor in enumerate(cached):
                    cached[layer] = tensor[alive]
        for own in (self._own_keys, self._own_values):
            for layer, room in enumerate(own):
                own[layer] = room[kept] if room is not None else None
        self._arrange()

    def get_seq_length(self, _layer: int = 0) -> int:
        """transformers' name for the tokens so far."""
        return self._prompt_mask.shape[1] + self._length

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_arguments: Any, **_named: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """transformers' name for: keep a step's keys and values (R x K x 1 x D). Gives the row's own ones."""
        return self._append(self._own_keys, keys, layer), self._append(self._own_values, values, layer)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        layer: int,
        scaling: float,
        window: int | None,
        dropout: float,
    ) -> torch.Tensor:
        """See ``tree_attention.Tree``; ``key`` and ``value`` are what ``update`` gave. No gradients, no dropout."""
        rows, heads, _, size = query.shape
        shared = heads // key.shape[1]
        grouped = query.view(rows, key.shape[1], shared, size)  # R x K x g x D
        on_prompt = self._to_rows(
            self._to_prompts(grouped) @ self._prompt_keys[layer].transpose(2, 3), shared
        )  # R x K x g x P
        on_own = grouped @ key.transpose(2, 3)
        scores = torch.cat([on_prompt, on_own], dim=3).float().mul_(scaling)
        if window not in self._hidden:
            self._hidden[window] = self._unseen(window)
        unseen = self._hidden[window]
        if unseen is not None:
            scores.masked_fill_(unseen[:, None, None], -torch.inf)
        weights = torch.softmax(scores, dim=3).to(query.dtype)
        places = on_prompt.shape[3]
        from_prompt = self._to_rows(self._to_prompts(weights[..., :places]) @ self._prompt_values[layer], shared)
        attended = from_prompt + weights[..., places:] @ value
        return attended.reshape(rows, heads, 1, size)

    def _append(self, own: list[torch.Tensor | None], new: torch.Tensor, layer: int) -> torch.Tensor:
        room = own[layer]
        if room is None or self._length == room.shape[2]:
            grown = new.new_empty(*new.shape[:2], self._length + _GROWTH, new.shape[3])
            if room is not None:
                grown[:, :, : self._length] = room
            own[layer] = room = grown
        room[:, :, self._length] = new[:, :, 0]
        return room[:, :, : self._length + 1]

    def _arrange(self) -> None:
        """Give each row a place in a grid of prompts x the most rows that any of them has."""
        rows_of = self._group.bincount(minlength=len(self._prompt_mask))
        self._most = int(rows_of.max())
        self._full = bool((rows_of == self._most).all())
        before = rows_of.cumsum(0) - rows_of  # rows stand in the order of their prompts
        number = torch.arange(len(self._group), device=self._group.device) - before[self._group]
        self._place = self._group * self._most + number

    def _to_prompts(self, rows: torch.Tensor) -> torch.Tensor:
        """R x K x g x N to B x K x (rows of a prompt x g) x N, zeros where a prompt has fewer rows than others."""
        if not self._full:
            grid = rows.new_zeros(len(self._prompt_mask) * self._most, *rows.shape[1:])
            rows = grid.index_copy_(0, self._place, rows)
        split = rows.reshape(len(self._prompt_mask), self._most, *rows.shape[1:])  # B x G x K x g x N
        return split.transpose(1, 2).flatten(2, 3)

    def _to_rows(self, grouped: torch.Tensor, shared: int) -> torch.Tensor:
        """The inverse of ``_to_prompts``."""
        split = grouped.reshape(*grouped.shape[:2], self._most, shared, grouped.shape[3])  # B x K x G x g x N
        rows = split.transpose(1, 2).flatten(0, 1)
        return rows if self._full else rows[self._place]

    def _unseen(self, window: int | None) -> torch.Tensor | None:
        padding = ~self._prompt_mask
        if window is None or window > self.get_seq_length():
            if not padding.any():
                return None
            own = padding.new_zeros(len(self._group), self._length + 1)
            return torch.cat([padding[self._group], own], dim=1)
        places = padding.shape[1]
        # counted back from the token of this step, which stands right behind the prompt and the own ones
        back = places + self._length - torch.arange(places + self._length + 1, device=padding.device)
        outside = (back >= window).expand(len(self._group), -1).clone()
        outside[:, :places] |= padding[self._group]
        return outside


def _prefill(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], cache: DynamicCache, pad_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits after each prompt (prompts x vocabulary) and the mask of the prompts, padded on the left."""
    width = max(map(len, prompts))
    device = model.device
    input_ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = _next_logits(
        model, input_ids=input_ids, attention_mask=mask, position_ids=positions, past_key_values=cache
    )
    return logits, mask


def _next_logits(model: PreTrainedModel, **inputs: Any) -> torch.Tensor:
    """Logits of the last position in float32, rows x vocabulary; the cache grows by the tokens given."""
    logits: torch.Tensor = model(**inputs, use_cache=True, logits_to_keep=1).logits[:, -1].float()
    return logits
