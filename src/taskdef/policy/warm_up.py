"""A short SFT on verified solutions, for a base model that hardly ever writes an answer that can be read.

Reinforcement learning cannot start from attempts that all count as unreadable: every group's rewards are equal. The
warm-up teaches the form, not the task: it stops as soon as enough attempts can be read, and its result is evaluated
as a row of its own, so that its gain is never sold as reinforcement learning's. It comes before adaptation and
scoring, because pass rates must be those of the model that reinforcement learning starts from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import torch
from transformers import PreTrainedModel

from taskdef.config import WarmUpConfig
from taskdef.policy.attempts import Problem, attempt_problems, readable_share
from taskdef.policy.master_weights import MasterWeightAdamW
from taskdef.policy.memory import memory_ends, training_sizes
from taskdef.policy.prompting import PromptEncoder
from taskdef.policy.shared_prefix import pack_groups, packed_log_probabilities, supports_shared_prefix
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Sample, WarmUp, WarmUpCheck
from taskdef.verify.isolated import Verifier

IGNORED = -100
"""Label of tokens that carry no loss."""


def needs_warm_up(config: WarmUpConfig, readable: float | None) -> tuple[bool, str]:
    """Whether to warm up, and the reason in words, from the share of greedy attempts that could be read."""
    if config.mode == "never":
        return False, "switched off (warm_up.mode=never)"
    if config.mode == "always":
        return True, "asked for (warm_up.mode=always)"
    if readable is None:
        return False, "no attempt could be judged"
    share = f"{readable:.0%} of the base model's attempts hold an answer that can be read"
    if readable < config.readable_below:
        return True, f"{share}, fewer than {config.readable_below:.0%}"
    return False, f"{share}, enough to start from"


def warm_up_policy(
    policy: TransformersPolicy,
    samples: Sequence[Sample],
    config: WarmUpConfig,
    *,
    readable_before: float | None,
    reason: str,
    verifier: Verifier,
    seed: int,
    progress: Progress | None = None,
) -> WarmUp:
    """Train the policy's model in place on ``samples``' solutions until enough probe attempts can be read.

    The probe is sampled at temperature 1 on inputs the SFT does not train on, where there are enough samples for that.
    """
    progress = progress or SilentProgress()
    order = random.Random(seed)
    shuffled = order.sample(list(samples), len(samples))
    probe = [Problem.of(sample) for sample in shuffled[: config.probe_samples]]
    lessons = shuffled[config.probe_samples :] or shuffled
    model = policy.model.train()
    optimizer = MasterWeightAdamW(model.parameters(), config.learning_rate, weight_decay=0.01)
    checks: list[WarmUpCheck] = []
    progress.start("warm-up", config.max_steps)
    for step in range(1, config.max_steps + 1):
        batch = order.sample(lessons, min(config.batch, len(lessons)))
        sizes = partial(
            training_sizes,
            model,
            micro_batch=len(batch),
            fitting_micro_batch=len(batch) // 2,
            adapter=False,
            reference=False,
            key="warm_up.batch",
        )
        with memory_ends(sizes):
            loss = supervised_loss(model, policy.encoder, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        optimizer.zero_grad()
        progress.advance(1, f"loss {loss.item():.2f}")
        if step % config.check_every == 0 or step == config.max_steps:
            model.eval()
            attempts = attempt_problems(
                policy,
                probe,
                count=1,
                temperature=1.0,
                seed=seed,
                label=f"warm-up probe {step}",
                verifier=verifier,
                progress=SilentProgress(),
            )
            model.train()
            readable = readable_share(attempts)
            checks.append(WarmUpCheck(step=step, readable=readable, loss=loss.item()))
            if readable is not None and readable >= config.stop_at_readable:
                break
    progress.finish()
    model.eval()
    last = checks[-1]
    progress.line(f"warm-up: {last.step} steps; readable attempts now {_percent(last.readable)}")
    return WarmUp(
        done=True,
        reason=reason,
        steps=last.step,
        readable_before=readable_before,
        readable_after=last.readable,
        checks=tuple(checks),
    )


def supervised_loss(model: PreTrainedModel, encoder: PromptEncoder, samples: Sequence[Sample]) -> torch.Tensor:
    """Mean cross-entropy (nats a token) of the solutions' tokens, end of sequence included, given their prompts."""
    completions = [encoder.completion_ids(sample.solution) for sample in samples]
    tokens = sum(map(len, completions))
    if supports_shared_prefix(model):  # not for sharing here, but for logits at solution tokens only
        width = max(map(len, completions))
        prompts = [encoder.prompt_ids(sample.input) for sample in samples]
        packed = pack_groups(prompts, [[ids] for ids in completions], width=width)
        log_probabilities, _ = packed_log_probabilities(model, packed, temperature=1.0, shape=(len(samples), width))
        return -log_probabilities.sum() / tokens
    rows = [(encoder.prompt_ids(sample.input), ids) for sample, ids in zip(samples, completions, strict=True)]
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    padding = [width - len(prompt) - len(completion) for prompt, completion in rows]
    output = model(
        input_ids=_padded([prompt + completion for prompt, completion in rows], padding, 0, model.device),
        attention_mask=_padded(
            [[1] * len(prompt + completion) for prompt, completion in rows], padding, 0, model.device
        ),
        labels=_padded(
            [[IGNORED] * len(prompt) + completion for prompt, completion in rows], padding, IGNORED, model.device
        ),
    )
    loss: torch.Tensor = output.loss
    return loss


def _padded(rows: Sequence[list[int]], padding: Sequence[int], value: int, device: torch.device) -> torch.Tensor:
    return torch.tensor([row + [value] * count for row, count in zip(rows, padding, strict=True)], device=device)


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"
