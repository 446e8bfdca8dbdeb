"""Transformers small enough to be trained from scratch in a minute on a CPU, for the benchmarks that need many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, END = "<pad>", "<end>"
_NO_LOSS = -100


def word_tokenizer(tokens: Sequence[str], pattern: str, removed: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer that knows ``tokens`` and nothing else; ``pattern`` matches one, ``removed`` is left out before."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate([PAD, END, *tokens])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    splits = [pre_tokenizers.Split(removed, behavior="removed")] if removed else []
    splits.append(pre_tokenizers.Split(Regex(pattern), behavior="isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def fresh_transformer(tokenizer: PreTrainedTokenizerFast, *, width: int, layers: int, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=width**-0.5,  # the usual 0.02 is for models many times as wide
        )
    )


def train_from_scratch(
    model: LlamaForCausalLM,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    after_step: Callable[[int], bool | None],
) -> None:
    """SFT on prompts and completions as token ids, drawn with replacement; ``after_step`` is told each step's
    number, counted from 1, and ends the training by True."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    padding = [width - len(prompt) - len(completion) for prompt, completion in rows]
    ids = torch.tensor([[*prompt, *wanted, *[0] * left] for (prompt, wanted), left in zip(rows, padding, strict=True)])
    labels = torch.tensor(
        [
            [*[_NO_LOSS] * len(prompt), *wanted, *[_NO_LOSS] * left]
            for (prompt, wanted), left in zip(rows, padding, strict=True)
        ]
    )
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100))
    model.train()
    for step in range(1, steps + 1):
        chosen = torch.randint(len(rows), (batch,), generator=order)
        # padding stands behind everything that is learned, so causal attention needs no mask for it
        logits = model(input_ids=ids[chosen, :-1]).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[chosen, 1:].flatten(), ignore_index=_NO_LOSS
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if after_step(step):
            break
    model.eval()
