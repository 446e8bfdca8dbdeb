"""What the trainers that learn from their own completions share: rollouts and log-probabilities with shared prompts.

``SharedPrompts`` stands before one of TRL's trainers in the list of base classes. Its rollouts come from
``policy.sampling`` (one prefill a prompt, finished rows leave the batch), its log-probabilities from
``policy.shared_prefix`` (one sequence for a prompt and all its completions) where the model's attention allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from trl.trainer.utils import RepeatSampler

from taskdef.policy.prompting import PromptEncoder
from taskdef.policy.sampling import sample_in_batches
from taskdef.policy.shared_prefix import (
    PackedGroups,
    pack_groups,
    packed_log_probabilities,
    packed_states,
    supports_shared_prefix,
)

MOST_PACKED_POSITIONS = 4096
"""Longest packed group. The mask and the attention grow with its square: many long completions are cheaper apart."""

LogProbabilities = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
"""What TRL's trainers pass around: log-probabilities, entropies, and a loss of mixture-of-experts models."""


class EpochSampler(RepeatSampler):
    """TRL's sampler, but an epoch's order follows from seed and epoch alone.

    So a run that goes on from a checkpoint meets the prompts that an undisturbed one would have met.
    """

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer before each epoch."""
        self.generator.manual_seed(self.seed * 1_000_003 + epoch)


class SharedPrompts:
    """Rollouts and log-probabilities for a TRL trainer, each prompt taken once for all its completions."""

    _buffered_inputs: Any
    _step: int
    accelerator: Any
    args: Any
    max_completion_length: int
    model: Any
    num_generations: int
    processing_class: Any
    state: Any
    temperature: float
    top_p: float

    def __init__(
        self,
        *arguments: Any,
        encoder: PromptEncoder,
        stop_ids: frozenset[int],
        batch_tokens: int,
        **named: Any,
    ) -> None:
        self.encoder = encoder
        self.stop_ids = stop_ids
        self.batch_tokens = batch_tokens
        super().__init__(*arguments, **named)
        model = self.accelerator.unwrap_model(self.model)
        # the packed forward pass calls the decoder inside the model, past the wrapper that syncs gradients
        self.shares_prefixes = self.accelerator.num_processes == 1 and supports_shared_prefix(model)

    def sample_groups(self, prompts: list[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of prompts and completions; ``prompts`` holds each prompt once for every completion wanted."""
        groups = [(prompt, len(list(same))) for prompt, same in groupby(prompts)]
        count = self.num_generations
        inputs = [prompt for prompt, times in groups for _ in range(times // count)]
        prompt_ids = [self.encoder.prompt_ids(sample_input) for sample_input in inputs]
        model = self.accelerator.unwrap_model(self.model)
        generator = torch.Generator(device=model.device)
        # the step is part of the seed, so a run resumed from a checkpoint draws what it would have drawn
        generator.manual_seed(self.args.seed * 1_000_003 + self.state.global_step)
        was_training = model.training
        model.eval()
        sampled = sample_in_batches(
            model,
            prompt_ids,
            count=count,
            max_new_tokens=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            stop_ids=self.stop_ids,
            pad_id=int(self.processing_class.pad_token_id),
            generator=generator,
            batch_tokens=self.batch_tokens,
        )
        model.train(was_training)
        return [ids for ids in prompt_ids for _ in range(count)], [ids for group in sampled for ids in group]

    def packs(self, input_ids: torch.Tensor, completion_width: int) -> bool:
        """Whether groups of padded rows of this shape go through the model as one sequence each."""
        positions = input_ids.size(1) + (self.num_generations - 1) * completion_width
        return self.shares_prefixes and positions <= MOST_PACKED_POSITIONS

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """One micro-batch. TRL shuffles all rollouts, which would leave most rows without another of their prompt.

        Left so for ``bnpo``, whose loss is a mean over the tokens of a micro-batch and so depends on what is in it.
        """
        known = self._buffered_inputs
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)  # type: ignore[misc]
        window = self.args.gradient_accumulation_steps
        mixed = window > 1 and self._buffered_inputs is not known
        if not mixed or not self.shares_prefixes or getattr(self.args, "loss_type", None) == "bnpo":
            return inputs
        parts = self._buffered_inputs
        windows = [groups_together(parts[start : start + window]) for start in range(0, len(parts), window)]
        self._buffered_inputs = [part for regrouped in windows for part in regrouped]
        return dict(self._buffered_inputs[self._step % self.args.steps_per_generation])

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        stock = super()._get_train_sampler(dataset)  # type: ignore[misc]
        return EpochSampler(
            stock.data_source, stock.mini_repeat_count, stock.batch_size, stock.repeat_count, stock.shuffle, stock.seed
        )

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **named: Any,
    ) -> LogProbabilities:
        if not self.packs(input_ids, logits_to_keep):
            stock: LogProbabilities = super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
                model, input_ids, attention_mask, logits_to_keep, batch_size, **named
            )
            return stock
        unwrapped = self.accelerator.unwrap_model(model)
        log_probabilities: list[torch.Tensor] = []
        entropies: list[torch.Tensor] = []
        for start in range(0, len(input_ids), batch_size or len(input_ids)):
            part = slice(start, start + (batch_size or len(input_ids)))
            with self.accelerator.autocast():
                log_probability, entropy = grouped_log_probabilities(
                    unwrapped, input_ids[part], attention_mask[part], logits_to_keep, self.temperature
                )
            log_probabilities.append(log_probability)
            entropies.append(entropy)
        return torch.cat(log_probabilities), torch.cat(entropies), None


def groups_together(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The micro-batches of one optimizer step, of equal size, with rows of equal prompts side by side.

    The step learns from the same rows; only which of them go through the model together is another.
    """
    by_row = [key for key, value in parts[0].items() if isinstance(value, torch.Tensor) and value.ndim]
    whole = {key: torch.cat([part[key] for part in parts]) for key in by_row}
    prompts = [tuple(ids) for ids in whole["prompt_ids"].tolist()]
    first: dict[tuple[int, ...], int] = {}
    for row, prompt in enumerate(prompts):
        first.setdefault(prompt, row)
    order = torch.tensor(sorted(range(len(prompts)), key=lambda row: first[prompts[row]]))
    rows = order.chunk(len(parts))
    return [
        part | {key: whole[key][mine.to(whole[key].device)] for key in by_row}
        for part, mine in zip(parts, rows, strict=True)
    ]


def group_rows(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_width: int
) -> tuple[PackedGroups, torch.Tensor]:
    """Padded rows packed by equal prompts; and the place of each row among the completions so packed."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    completions = []
    for row, (ids, mask) in enumerate(zip(input_ids.tolist(), attention_mask.bool().tolist(), strict=True)):
        kept = [token if seen else None for token, seen in zip(ids, mask, strict=True)]
        prompt = tuple(token for token in kept[:-completion_width] if token is not None)
        by_prompt.setdefault(prompt, []).append(row)
        completions.append([token for token in kept[-completion_width:] if token is not None])
    packed = pack_groups(
        list(by_prompt), [[completions[row] for row in rows] for rows in by_prompt.values()], width=completion_width
    )
    order = torch.tensor([row for rows in by_prompt.values() for row in rows], device=input_ids.device)
    return packed, torch.argsort(order)


def grouped_log_probabilities(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_width: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies, rows x ``completion_width``, of padded rows, sharing equal prompts."""
    packed, place = group_rows(input_ids, attention_mask, completion_width)
    grids = packed_log_probabilities(model, packed, temperature=temperature, shape=(len(place), completion_width))
    return grids[0][place], grids[1][place]


def completion_states(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_width: int, *, shared: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states that predict the completion tokens of padded rows (N x hidden size), with the N tokens and their
    N places in the flattened (rows x ``completion_width``) grid.

    ``shared`` packs equal prompts into one sequence; otherwise every row goes through the model by itself.
    """
    if shared:
        packed, place = group_rows(input_ids, attention_mask, completion_width)
        row_of = torch.argsort(place).cpu()
        slot = row_of[packed.slot // completion_width] * completion_width + packed.slot % completion_width
        states = packed_states(model, packed)
        return states, packed.target.to(states.device), slot.to(states.device)
    hidden = model.get_decoder()(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state[
        :, -completion_width - 1 : -1
    ]
    kept = attention_mask[:, -completion_width:].bool()
    slot = kept.flatten().nonzero()[:, 0]
    return hidden[kept], input_ids[:, -completion_width:][kept], slot
