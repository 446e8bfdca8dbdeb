"""The forward pass of TRL's SFT and DPO trainers, on the tokens that are learned.

Both call ``model(input_ids=…, attention_mask=…, labels=…, fused_lm_head=True)`` and read figures of the labelled tokens
from what comes back. Where Triton is missing, as on CPUs, TRL's head runs on every position, most of which are the
prompt's; and what rows begin with goes through the model once for each of them: a task's description with every
question, a whole prompt with both sides of its pair. ``LearnedTokens`` stands in the model's place in that call. Its
head runs where a labelled token is predicted, and rows that begin alike go through the model as one sequence
(``policy.shared_prefix``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from taskdef.policy.log_probabilities import log_probabilities_of
from taskdef.policy.shared_prefix import (
    head_logits,
    left_out_of_head_logits,
    pack_groups,
    packed_states,
    supports_shared_prefix,
    to_grid,
)

_NO_LABEL = -100


@dataclass(frozen=True)
class TokenFigures:
    """What TRL reads from a forward pass: rows x (tokens - 1), zero where nothing is learned."""

    log_probs: torch.Tensor
    """Of the labelled tokens; the only figures that carry gradients."""
    entropy: torch.Tensor
    """Nats."""
    mean_logits: torch.Tensor
    is_top1: torch.Tensor
    """Whether the label is the likeliest token."""
    label_mask: torch.Tensor


class LearnedTokens:
    """Stands for a trainer's model in that call. Rows are padded on the right, and what is learned ends each row.

    Where the model's attention cannot share what rows begin with, each goes by itself.
    """

    def __init__(self, trainer: Any, model: Any) -> None:
        self.autocast = trainer.accelerator.autocast
        self.model = trainer.accelerator.unwrap_model(model)

    def __call__(
        self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor, **_named: Any
    ) -> TokenFigures:
        learned = labels[:, 1:] != _NO_LABEL
        with self.autocast():
            if supports_shared_prefix(self.model):
                states, target, place = shared_states(self.model, input_ids, attention_mask, learned)
            else:
                decoder = self.model.get_decoder()
                hidden = decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
                states, target = hidden[:, :-1][learned], labels[:, 1:][learned]
                place = learned.flatten().nonzero()[:, 0]
            logits = head_logits(self.model, states)
        log_probability, entropy = log_probabilities_of(logits, target, temperature=1.0)
        with torch.no_grad():
            top = logits.argmax(dim=1) == target
            mean = logits.mean(dim=1, dtype=torch.float32)
        shape = (learned.size(0), learned.size(1))
        return TokenFigures(
            log_probs=to_grid(log_probability, place, shape),
            entropy=to_grid(entropy, place, shape),
            mean_logits=to_grid(mean, place, shape),
            is_top1=to_grid(top, place, shape),
            label_mask=learned,
        )


def shared_states(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, learned: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states that predict the learned tokens (N x hidden size), the N tokens, and their N places in the
    flattened grid of ``learned``: rows x (tokens - 1)."""
    lengths, learned_lengths = attention_mask.sum(dim=1).tolist(), learned.sum(dim=1).tolist()
    rows = [ids[:length] for ids, length in zip(input_ids.tolist(), lengths, strict=True)]
    first = [length - of_row for length, of_row in zip(lengths, learned_lengths, strict=True)]
    groups = share_beginnings(rows, first)
    packed = pack_groups(
        [rows[group.rows[0]][: group.shared] for group in groups],
        [[rows[row][group.shared :] for row in group.rows] for group in groups],
        width=input_ids.size(1),
    )
    row = torch.tensor([row for group in groups for row in group.rows])
    shared = torch.tensor([group.shared for group in groups for _ in group.rows])
    completion, offset = packed.slot // input_ids.size(1), packed.slot % input_ids.size(1)
    token = shared[completion] + offset  # its number in the row
    place = row[completion] * learned.size(1) + token - 1
    wanted = token >= torch.tensor(first)[row[completion]]
    states = packed_states(model, replace(packed, predictor=packed.predictor[wanted]))
    return states, packed.target[wanted].to(states.device), place[wanted].to(states.device)


@dataclass(frozen=True)
class Group:
    """Rows whose first ``shared`` tokens are the same."""

    rows: tuple[int, ...]
    shared: int


def share_beginnings(rows: Sequence[Sequence[int]], first: Sequence[int]) -> list[Group]:
    """Put rows together that are cheaper so; ``first`` is where a row's learned tokens begin, which are never shared.

    Rows that begin most alike meet first, for each is only compared with the group before it.
    """
    groups: list[Group] = []
    sizes: list[int] = []
    for row in sorted(range(len(rows)), key=lambda row: list(rows[row])):
        if groups:
            group = groups[-1]
            most = min(group.shared if len(group.rows) > 1 else first[group.rows[0]], first[row])
            shared = _alike(rows[group.rows[0]], rows[row], most)
            size = sizes[-1] + (group.shared - shared) * (len(group.rows) - 1) + len(rows[row]) - shared
            if shared and _cost(size) < _cost(sizes[-1]) + _cost(len(rows[row])):
                groups[-1], sizes[-1] = Group((*group.rows, row), shared), size
                continue
        groups.append(Group((row,), first[row]))
        sizes.append(len(rows[row]))
    if len(groups) * max(sizes) > len(rows) * max(map(len, rows)):  # sequences are filled up to the longest
        return [Group((row,), first[row]) for row in range(len(rows))]
    return groups


def _alike(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Number of tokens, up to ``most``, that both begin with."""
    return next((place for place in range(most) if one[place] != other[place]), most)


def _cost(positions: int) -> float:
    """Of a sequence: its matrix products, and its attention, which reaches as much at about a thousand positions."""
    return positions + positions**2 / 1000


def can_stand_in(trainer: Any) -> bool:
    """Whether ``LearnedTokens`` gives what the trainer's model gives.

    So in one process, where logits are the head's output (soft-capped or not) and no mixture of experts adds a loss.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    one_process = trainer.accelerator.num_processes == 1
    return one_process and not trainer.aux_loss_enabled and not left_out_of_head_logits(model)
