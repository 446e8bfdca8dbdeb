"""Attention over a prompt and its branches, in the place where transformers lets a model's attention be exchanged.

A forward pass that is given ``tree=`` asks that object for every layer's attention; all other forward passes of the
same model go on as under SDPA, masks included. The window of a layer (Gemma 3's sliding layers) is what the layer
itself hands to its attention, so a tree needs no knowledge of architectures.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

TREE_ATTENTION = "taskdef_tree"

WINDOWED = frozenset({"gemma3_text", "mistral", "qwen3"})
"""Model types with sliding windows whose layers are known, by test, to hand their window to the attention."""

_MORE_THAN_A_MATRIX = (
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
    "final_logit_softcapping",
)
"""Settings under which a model's logits are not its head's output."""


class Tree(Protocol):
    """What a forward pass is given as ``tree``."""

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
        """The attention's output, shaped like ``query``: batch x heads x places x head size.

        ``key`` and ``value`` may have fewer heads, each shared by as many query heads in a row. ``window``: how many
        positions back, itself included, a place sees; all where None.
        """
        ...


def tree_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    tree: Tree | None = None,
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' signature of an attention; the output is batch x places x heads x head size."""
    if tree is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **named
        )
        return output
    attended = tree.attend(
        query,
        key,
        value,
        layer=int(module.layer_idx),  # type: ignore[arg-type]
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        dropout=dropout,
    )
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(TREE_ATTENTION, tree_attention_forward)
AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)


def decode_with_tree(model: PreTrainedModel, tree: Tree, **inputs: Any) -> torch.Tensor:
    """The decoder's last hidden states (batch x places x hidden size) with ``tree`` in place of every attention."""
    config = model.config.get_text_config()
    # For good: a gradient checkpoint runs a layer again during the backward pass, and must find the same attention.
    # Passes without a tree are SDPA's in both cases.
    config._attn_implementation = TREE_ATTENTION
    # A mask of four dimensions is taken for a finished one, so none is made
    unused = torch.zeros(1, 1, 1, 1, device=model.device)
    hidden: torch.Tensor = model.get_decoder()(attention_mask=unused, tree=tree, **inputs).last_hidden_state
    return hidden


def supports_tree_attention(model: PreTrainedModel) -> bool:
    """Whether every layer is plain softmax attention that can be exchanged, and logits are the head's output.

    Not so for recurrent, linear or chunked layers, for attention sinks and soft caps (run as ``eager``), for other
    kernels that were asked for, and for scaled logits.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = "sliding_attention" in kinds or getattr(config, "sliding_window", None) is not None
    return (
        config._attn_implementation in ("sdpa", TREE_ATTENTION)
        and model._supports_attention_backend
        and not model._is_stateful
        and kinds <= {"full_attention", "sliding_attention"}
        and (config.model_type in WINDOWED or not windowed)
        and not getattr(config, "use_bidirectional_attention", False)
        and getattr(config, "attn_logit_softcapping", None) is None
        and not changes_of_logits(model)
    )


def changes_of_logits(model: PreTrainedModel) -> dict[str, Any]:
    """What a model does to its head's output before it is its logits: the settings by name, none as a rule."""
    config = model.config.get_text_config()
    found = {name: getattr(config, name, None) for name in _MORE_THAN_A_MATRIX}
    return {name: value for name, value in found.items() if value not in (None, 1.0)}
