"""Log-probabilities and entropies of tokens from logits, without copies of the logits in float32.

The plain way (``float``, divide, ``log_softmax``, ``exp``, multiply, sum) writes a float32 matrix of tokens x
vocabulary six times and keeps one for the backward pass. Here logits are read in blocks that fit a processor's cache,
and only the logits themselves, in the precision they came in, are kept.
"""

from __future__ import annotations

from typing import Any

import torch

_BLOCK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Logits looked at together: a megabyte of float32 on a CPU (its second-level cache), 256 on a GPU."""


def log_probabilities_of(
    logits: torch.Tensor, target: torch.Tensor, *, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """log softmax(logits / temperature) at ``target``, and the entropy (nats) there: N each, float32.

    ``logits`` are N x vocabulary in any precision; all arithmetic is float32. Only log-probabilities carry gradients.
    """
    log_probability, entropy = _LogProbabilities.apply(logits, target, temperature)  # type: ignore[no-untyped-call]
    return log_probability, entropy


class _LogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, target: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_probability, entropy, log_total = logits.new_empty(3, len(logits), dtype=torch.float32)
        for part in _blocks(logits):
            scaled = logits[part].float() if logits.dtype != torch.float32 else logits[part].clone()
            scaled.div_(temperature)
            highest = scaled.amax(dim=1)
            scaled.sub_(highest[:, None])
            at_target = scaled.gather(1, target[part, None])[:, 0]
            weight = scaled.exp()
            total = weight.sum(dim=1)
            log_sum = total.log()
            log_probability[part] = at_target - log_sum
            # sum over v of p_v (log total - scaled_v)
            entropy[part] = log_sum - weight.mul_(scaled).sum(dim=1) / total
            log_total[part] = log_sum + highest
        ctx.save_for_backward(logits, target, log_total)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy)
        return log_probability, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _entropy: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """d log p_target / d logit_v = (1[v = target] - p_v) / temperature."""
        logits, target, log_total = ctx.saved_tensors
        share = gradient.float() / ctx.temperature
        result = torch.empty_like(logits)
        for part in _blocks(logits):
            block = logits[part].float() if logits.dtype != torch.float32 else logits[part].clone()
            block.div_(ctx.temperature).sub_(log_total[part, None]).exp_()
            block.mul_(-share[part, None])
            block.scatter_add_(1, target[part, None], share[part, None])
            result[part] = block
        return result, None, None


def _blocks(logits: torch.Tensor) -> list[slice]:
    rows = max(1, _BLOCK_ELEMENTS.get(logits.device.type, 1 << 24) // max(1, logits.shape[1]))
    return [slice(start, start + rows) for start in range(0, len(logits), rows)]
