"""Log-probabilities of all completions of a prompt from one sequence that holds the prompt once.

A group is packed as  [prompt | completion 1 | ... | completion G].  A completion's token sees the prompt and its own
completion's earlier tokens only, and its position continues the prompt's, so every hidden state equals that of the
separate sequence. A prompt of P tokens with G completions of C costs P + G C positions instead of G (P + C). Windows of
sliding layers are counted in positions, not in places of the packed sequence. Logits are computed where a completion
token is predicted, nowhere else.

Prompts are attended causally among themselves, which needs no mask; only the completions' rows have one (C G x S
instead of S x S).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from taskdef.policy.log_probabilities import log_probabilities_of
from taskdef.policy.tree_attention import changes_of_logits, decode_with_tree, supports_tree_attention


@dataclass(frozen=True)
class PackedGroups:
    """Groups packed into a batch; B groups (rows) of S places, of which the first P are for prompts; N completion
    tokens in all."""

    input_ids: torch.Tensor
    """B x S; prompts and completions are each padded on the right."""
    position_ids: torch.Tensor
    """B x S."""
    prompt_places: int
    """P."""
    visible: torch.Tensor
    """B x (S - P) x S, True where a place behind the prompts (second axis) may see a key (last axis)."""
    predictor: torch.Tensor
    """N places in the flattened B x S grid whose hidden state predicts a completion token."""
    target: torch.Tensor
    """N token ids."""
    slot: torch.Tensor
    """N places in the flattened (completions x longest completion) grid, where the results belong."""


def pack_groups(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]], *, width: int
) -> PackedGroups:
    """Pack each prompt with its completions; ``width`` is the longest completion of the result grid."""
    prompt_places = max(map(len, prompts))
    size = prompt_places + max(sum(map(len, group)) for group in completions)
    rows, positions, owners, predictor, target, slot = [], [], [], [], [], []
    completion = 0
    for row, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
        padding = prompt_places - len(prompt)
        tokens, place = [*prompt, *[0] * padding], [*range(len(prompt)), *[0] * padding]
        owner = [0] * len(prompt) + [-1] * padding
        for number, ids in enumerate(group, start=1):
            start = len(tokens)
            for offset, token in enumerate(ids):
                before = start + offset - 1 if offset else len(prompt) - 1
                predictor.append(row * size + before)
                target.append(token)
                slot.append(completion * width + offset)
            tokens += ids
            place += range(len(prompt), len(prompt) + len(ids))
            owner += [number] * len(ids)
            completion += 1
        padding = size - len(tokens)
        rows.append(tokens + [0] * padding)  # any token: no other sees it
        positions.append(place + [0] * padding)
        owners.append(owner + [-1] * padding)
    owner_of = torch.tensor(owners)
    query, key = owner_of[:, prompt_places:, None], owner_of[:, None, :]
    order = torch.arange(size)
    visible = ((key == 0) | (key == query)) & (order[prompt_places:, None] >= order[None, :])
    return PackedGroups(
        input_ids=torch.tensor(rows),
        position_ids=torch.tensor(positions),
        prompt_places=prompt_places,
        visible=visible,
        predictor=torch.tensor(predictor, dtype=torch.long),
        target=torch.tensor(target, dtype=torch.long),
        slot=torch.tensor(slot, dtype=torch.long),
    )


@dataclass(frozen=True)
class PackedTree:
    """The attention of one forward pass over packed groups (see ``tree_attention.Tree``)."""

    packed: PackedGroups
    masks: dict[int | None, tuple[torch.Tensor | None, torch.Tensor]] = field(default_factory=dict)
    """By window: what prompts see (None: all before them), and what completions see."""

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
        if window not in self.masks:
            self.masks[window] = self._masks(window, query.device)
        among_prompts, behind_prompts = self.masks[window]
        shared = query.shape[1] // key.shape[1]
        grouped = shared > 1 and query.device.type == "cpu"  # on GPUs, masks and shared heads together are slow
        if shared > 1 and not grouped:
            key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
        places = self.packed.prompt_places
        parts = [
            scaled_dot_product_attention(
                query[:, :, :places],
                key[:, :, :places],
                value[:, :, :places],
                attn_mask=among_prompts,
                is_causal=among_prompts is None,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=grouped,
            )
        ]
        if query.shape[2] > places:
            parts.append(
                scaled_dot_product_attention(
                    query[:, :, places:],
                    key,
                    value,
                    attn_mask=behind_prompts,
                    dropout_p=dropout,
                    scale=scaling,
                    enable_gqa=grouped,
                )
            )
        return torch.cat(parts, dim=2)

    def _masks(self, window: int | None, device: torch.device) -> tuple[torch.Tensor | None, torch.Tensor]:
        places, size = self.packed.prompt_places, self.packed.input_ids.shape[1]
        behind = self.packed.visible
        among = None
        if window is not None:
            position = self.packed.position_ids
            behind = behind & (position[:, places:, None] - position[:, None, :] < window)
            if window < places:
                order = torch.arange(places)
                distance = order[:, None] - order[None, :]
                among = ((distance >= 0) & (distance < window)).to(device)
        # a padding row that sees nothing would turn into NaN
        behind = behind | torch.eye(size, dtype=torch.bool)[places:]
        return among, behind[:, None].to(device)


def packed_log_probabilities(
    model: PreTrainedModel, packed: PackedGroups, *, temperature: float, shape: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy (nats) of every completion token under ``softmax(logits / temperature)``.

    Both have ``shape`` (completions x longest completion), float32, zero where no token is. Only log-probabilities
    carry gradients.
    """
    states = packed_states(model, packed)
    log_probability, entropy = token_log_probabilities(
        model, states, packed.target.to(states.device), temperature=temperature
    )
    return to_grid(log_probability, packed.slot, shape), to_grid(entropy, packed.slot, shape)


def packed_states(model: PreTrainedModel, packed: PackedGroups) -> torch.Tensor:
    """The last layer's hidden states that predict the completion tokens, N x hidden size."""
    device = model.device
    hidden = decode_with_tree(
        model,
        PackedTree(packed),
        input_ids=packed.input_ids.to(device),
        position_ids=packed.position_ids.to(device),
        use_cache=False,
    )
    return hidden.flatten(0, 1)[packed.predictor.to(device)]


def token_log_probabilities(
    model: PreTrainedModel, states: torch.Tensor, target: torch.Tensor, *, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target (N token ids) after its state (N x hidden size), and the entropy there."""
    return log_probabilities_of(head_logits(model, states), target, temperature=temperature)


def head_logits(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """Logits after hidden states (N x hidden size): N x vocabulary, soft cap included."""
    logits: torch.Tensor = model.get_output_embeddings()(states)
    soft_cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if soft_cap is None else soft_cap * torch.tanh(logits.float() / soft_cap)


def left_out_of_head_logits(model: PreTrainedModel) -> dict[str, Any]:
    """What this model does to its head's output that ``head_logits`` does not: the settings by name, none as a rule."""
    return {name: value for name, value in changes_of_logits(model).items() if name != "final_logit_softcapping"}


def to_grid(values: torch.Tensor, slot: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """N figures of completion tokens in a grid of ``shape`` (completions x longest completion); zero elsewhere."""
    grid = values.new_zeros(shape[0] * shape[1])
    return grid.index_copy(0, slot.to(values.device), values).view(shape)


def supports_shared_prefix(model: PreTrainedModel) -> bool:
    """Whether groups can be packed for this model; see ``supports_tree_attention``."""
    return supports_tree_attention(model)
