"""Log-probabilities of all completions of a prompt from one sequence that holds the prompt once.

A group is packed as  [prompt | completion 1 | ... | completion G].  A tree-shaped mask lets a completion's token see
the prompt and its own completion's earlier tokens only, and its position continues the prompt's, so every hidden
state equals that of the separate sequence. A prompt of P tokens with G completions of C costs P + G C positions
instead of G (P + C). Logits are computed where a completion token is predicted, nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class PackedGroups:
    """Groups packed into a batch; B groups (rows), S positions a row, N completion tokens in all."""

    input_ids: torch.Tensor
    """B x S."""
    position_ids: torch.Tensor
    """B x S."""
    visible: torch.Tensor
    """B x 1 x S x S, True where the query (second last axis) may see the key (last axis)."""
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
    rows, positions, owners, predictor, target, slot = [], [], [], [], [], []
    size = max(len(prompt) + sum(map(len, group)) for prompt, group in zip(prompts, completions, strict=True))
    completion = 0
    for row, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
        tokens, place, owner = list(prompt), list(range(len(prompt))), [0] * len(prompt)
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
    query, key = owner_of[:, :, None], owner_of[:, None, :]
    order = torch.arange(size)
    visible = ((key == 0) | (key == query)) & (order[None, :, None] >= order[None, None, :])
    visible |= torch.eye(size, dtype=torch.bool)  # a padding row that sees nothing would turn into NaN
    return PackedGroups(
        input_ids=torch.tensor(rows),
        position_ids=torch.tensor(positions),
        visible=visible[:, None],
        predictor=torch.tensor(predictor, dtype=torch.long),
        target=torch.tensor(target, dtype=torch.long),
        slot=torch.tensor(slot, dtype=torch.long),
    )


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
    dtype = model.get_input_embeddings().weight.dtype
    bias = torch.zeros(packed.visible.shape, dtype=dtype, device=device)
    bias.masked_fill_(~packed.visible.to(device), torch.finfo(dtype).min)
    hidden: torch.Tensor = model.get_decoder()(
        input_ids=packed.input_ids.to(device),
        attention_mask=bias,
        position_ids=packed.position_ids.to(device),
        use_cache=False,
    ).last_hidden_state
    return hidden.flatten(0, 1)[packed.predictor.to(device)]


def token_log_probabilities(
    model: PreTrainedModel, states: torch.Tensor, target: torch.Tensor, *, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target (N token ids) after its state (N x hidden size), and the entropy there."""
    logits = model.get_output_embeddings()(states).float()
    soft_cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if soft_cap is not None:
        logits = soft_cap * torch.tanh(logits / soft_cap)
    normalised = torch.log_softmax(logits / temperature, dim=-1)
    with torch.no_grad():
        entropy = -(normalised.exp() * normalised).sum(dim=-1)
    return normalised.gather(1, target[:, None])[:, 0], entropy


def to_grid(values: torch.Tensor, slot: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """N figures of completion tokens in a grid of ``shape`` (completions x longest completion); zero elsewhere."""
    grid = values.new_zeros(shape[0] * shape[1])
    return grid.index_copy(0, slot.to(values.device), values).view(shape)


def supports_shared_prefix(model: PreTrainedModel) -> bool:
    """Whether the model takes a four-dimensional mask: plain causal attention, eager or SDPA, no sliding window.

    Models with a soft cap on the final logits are left out too: their head is more than a matrix.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        config._attn_implementation in ("eager", "sdpa")
        and layers == {"full_attention"}
        and getattr(config, "sliding_window", None) is None
        and getattr(config, "final_logit_softcapping", None) is None
    )
