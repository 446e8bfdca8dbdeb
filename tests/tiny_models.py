"""Untrained models of some thousand weights, as ordinary Hugging Face checkpoints, and their tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}<user>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)

LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1200,
}


def save_tokenizer(folder: Path, *, chat: bool) -> int:
    """A byte-level tokenizer without merges: any text comes back as it was. Gives the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<end>", "<user>", "<model>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<end>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<model>"],
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return len(tokens)


def save_llama(folder: Path, *, chat: bool = False, seed: int = 0, **changes: Any) -> Path:
    """An untrained Llama with a byte-level tokenizer, as an ordinary Hugging Face checkpoint."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    size = save_tokenizer(folder, chat=chat)
    torch.manual_seed(seed)
    # the first weights are drawn widely: an untrained model with the usual small ones gives all tokens equal chances
    config = LlamaConfig(
        vocab_size=size, bos_token_id=1, eos_token_id=1, pad_token_id=0, initializer_range=0.3, **(LLAMA | changes)
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def save_tiny(folder: Path, model_class: Any, config_class: Any, **settings: Any) -> Path:
    """Two layers of another architecture, randomly initialised."""
    import torch

    folder.mkdir()
    size = save_tokenizer(folder, chat=False)
    torch.manual_seed(0)
    config = config_class(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=1200,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
        **settings,
    )
    model_class(config).save_pretrained(folder)
    return folder
