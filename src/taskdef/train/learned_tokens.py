"""The forward pass of TRL's SFT and DPO trainers, on the tokens that are learned.

Both call ``model(input_ids=…, attention_mask=…, labels=…, fused_lm_head=True)`` and read figures of the labelled tokens
from what comes back. Where Triton is missing, as on CPUs, TRL's head runs on every position, most of which are the
prompt's; and a pair's prompt goes through the model once for either side. ``LearnedTokens`` stands in the model's place
in that call: its head runs where a labelled token is predicted, and rows of a prompt can go through the model as one
sequence (``policy.shared_prefix``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from taskdef.policy.log_probabilities import log_probabilities_of
from taskdef.policy.shared_prefix import head_logits, pack_groups, packed_states
from taskdef.policy.tree_attention import changes_of_logits

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

    ``groups`` names the rows that go through the model as one sequence; the rows of a group have the same prompt.
    Without groups each row goes by itself.
    """

    def __init__(self, trainer: Any, model: Any, groups: Sequence[Sequence[int]] | None = None) -> None:
        self.autocast = trainer.accelerator.autocast
        self.model = trainer.accelerator.unwrap_model(model)
        self.groups = groups

    def __call__(
        self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor, **_named: Any
    ) -> TokenFigures:
        learned = labels[:, 1:] != _NO_LABEL
        with self.autocast():
            if self.groups is None:
                decoder = self.model.get_decoder()
                hidden = decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
                states, target, place = hidden[:, :-1][learned], labels[:, 1:][learned], learned.flatten().nonzero()
            else:
                states, target, place = grouped_states(self.model, input_ids, attention_mask, learned, self.groups)
            logits = head_logits(self.model, states)
        log_probability, entropy = log_probabilities_of(logits, target, temperature=1.0)
        with torch.no_grad():
            top = logits.argmax(dim=1) == target
            mean = logits.mean(dim=1, dtype=torch.float32)

        def in_grid(values: torch.Tensor) -> torch.Tensor:
            return values.new_zeros(learned.numel()).index_copy(0, place.flatten(), values).view(learned.shape)

        return TokenFigures(in_grid(log_probability), in_grid(entropy), in_grid(mean), in_grid(top), learned)


def grouped_states(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    learned: torch.Tensor,
    groups: Sequence[Sequence[int]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states that predict the learned tokens (N x hidden size), the N tokens, and their N places in the
    flattened grid of ``learned``: rows x (tokens - 1)."""
    lengths, learned_lengths = attention_mask.sum(dim=1).tolist(), learned.sum(dim=1).tolist()
    first = [length - learned_length for length, learned_length in zip(lengths, learned_lengths, strict=True)]
    ids = input_ids.tolist()
    packed = pack_groups(
        [ids[group[0]][: first[group[0]]] for group in groups],
        [[ids[row][first[row] : lengths[row]] for row in group] for group in groups],
        width=max(learned_lengths),
    )
    completion, offset = packed.slot // max(learned_lengths), packed.slot % max(learned_lengths)
    row = torch.tensor([row for group in groups for row in group])[completion]
    place = row * learned.size(1) + torch.tensor(first)[row] - 1 + offset
    states = packed_states(model, packed)
    return states, packed.target.to(states.device), place.to(states.device)


def can_stand_in(trainer: Any) -> bool:
    """Whether ``LearnedTokens`` gives what the trainer's model gives.

    So in one process, where logits are the head's output (soft-capped or not) and no mixture of experts adds a loss.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    scaled = changes_of_logits(model).keys() - {"final_logit_softcapping"}
    return trainer.accelerator.num_processes == 1 and not trainer.aux_loss_enabled and not scaled
