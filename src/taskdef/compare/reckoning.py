"""What a stage of a run will take: calls and completions from its settings, tokens and hours from figures that no
setting gives, which are named here and can be given.

Hours on one GPU: while decoding, a step gives one token to every sequence of a batch and takes as long as the library's
overhead or as reading the weights, whichever is longer; learning takes 10 operations a parameter and token (forward 2,
backward 4, forward again for checkpointed activations 2, the reference model's forward 2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from taskdef.config import RunConfig
from taskdef.errors import ConfigError
from taskdef.plan import Estimate
from taskdef.records import Stage

_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Assumptions:
    """Figures that hours and tokens are reckoned from; none was measured for the models of a plan."""

    tokens_read_a_call: float = 900
    """A prompt to write a sample: the instructions, and a passage of 2,048 characters."""
    tokens_written_a_call: float = 350
    """A sample with its solution; an answer to a question is taken to be as long."""
    tokens_read_a_vote: float = 200
    """A question with the instructions to answer it."""
    prompt_tokens: float = 150
    """Of the base model."""
    response_tokens: float = 300
    """Mean completion of the base model; no more than policy.max_new_tokens."""
    billion_parameters: float = 0
    """0: as the base model's name says (7B)."""
    decoding_steps_a_second: float = 30
    """Of transformers, one token for every sequence of the batch: overhead and weights read, whichever is slower."""
    bytes_a_second: float = 2e12
    """At which weights are read while decoding; about 60% of an H100's memory bandwidth."""
    training_flops: float = 1.5e14
    """Reached in training: about 15% of an H100's bf16 peak."""

    @classmethod
    def given(cls, pairs: Sequence[str]) -> Assumptions:
        """``response_tokens=200`` texts on top of the defaults. Raises ConfigError."""
        known = [one.name for one in fields(cls)]
        values: dict[str, float] = {}
        for pair in pairs:
            key, _, text = pair.partition("=")
            try:
                values[key.strip()] = float(text)
            except ValueError:
                raise ConfigError(
                    f"--assume {pair}: expected KEY=NUMBER", next_step=f"keys: {', '.join(known)}"
                ) from None
            if key.strip() not in known or float(text) < 0:
                raise ConfigError(f"--assume {pair}: no such key, or below 0", next_step=f"keys: {', '.join(known)}")
        return replace(cls(), **values)


@dataclass(frozen=True)
class Work:
    """What some stages will take."""

    calls: float = 0
    """Instructor calls where no draft is dropped: every vote counts as one."""
    most_calls: float = 0
    tokens_read: float = 0
    tokens_written: float = 0
    completions: float = 0
    """Of the base model, at most."""
    sampled: float = 0
    """Their tokens."""
    trained: float = 0
    """Tokens learned from, prompts included."""
    hours: float | None = 0.0
    """On one GPU; None where the model's size is not known."""

    def __add__(self, other: Work) -> Work:
        hours = None if self.hours is None or other.hours is None else self.hours + other.hours
        sums = {
            one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self) if one.name != "hours"
        }
        return Work(**sums, hours=hours)


def stage_work(stage: Stage, config: RunConfig, sizes: Estimate, known: set[str], assumed: Assumptions) -> Work:
    """One stage, without its hours. ``known``: files of it that another run will have."""
    response = min(assumed.response_tokens, config.policy.max_new_tokens)
    if stage is Stage.RETRIEVE:
        return _asked(sizes.keyword_calls, sizes.keyword_calls, 0, 0, assumed)
    if stage is Stage.SYNTHESIZE:
        most = sum(sizes.writing_calls.values()) + sizes.pattern_calls
        share = sizes.drafts / sizes.most_drafts if sizes.most_drafts else 0.0
        expected = sum(sizes.writing_calls.values()) * share + sizes.pattern_calls
        return _asked(expected, most, sizes.drafts * sizes.votes, sizes.most_drafts * sizes.votes, assumed)
    if stage is Stage.ADAPT:
        asked = _asked(
            sizes.rewrites, sizes.rewrites, sizes.rewrites * sizes.votes, sizes.rewrites * sizes.votes, assumed
        )
        made = 0 if "attempts-base.jsonl" in known else sizes.greedy_attempts
        return replace(asked, completions=made, sampled=made * response)
    if stage is Stage.SELECT:
        made = 0 if "attempts.jsonl" in known else sizes.scoring_attempts
        return Work(completions=made, sampled=made * response)
    if stage is Stage.TRAIN:
        trained = _trained_tokens(config, sizes, response, assumed)
        return Work(completions=sizes.rollouts, sampled=sizes.rollouts * response, trained=trained)
    rows = sizes.test_rows or 0
    models = 1 + ("attempts-base.jsonl" not in known)
    models += config.warm_up.mode != "never" and "attempts-warm_up.jsonl" not in known
    return Work(completions=models * rows, sampled=models * rows * response)


def _asked(writing: float, most_writing: float, votes: float, most_votes: float, assumed: Assumptions) -> Work:
    return Work(
        calls=writing + votes,
        most_calls=most_writing + most_votes,
        tokens_read=writing * assumed.tokens_read_a_call + votes * assumed.tokens_read_a_vote,
        tokens_written=(writing + votes) * assumed.tokens_written_a_call,
    )


def _trained_tokens(config: RunConfig, sizes: Estimate, response: float, assumed: Assumptions) -> float:
    train = config.train
    if train.by_rollouts:  # a prompt once for all its completions
        return sizes.rollouts * response + sizes.steps * train.batch * assumed.prompt_tokens
    batch = train.sft.batch if train.method in ("sft", "rft") else 2 * train.dpo.batch
    return sizes.steps * batch * (assumed.prompt_tokens + response)


def with_hours(work: Work, config: RunConfig, assumed: Assumptions) -> Work:
    """The same with its hours on one GPU; None where the model's size is not known."""
    billions = assumed.billion_parameters or size_in_name(config.base_model)
    if not billions:
        return replace(work, hours=None if work.completions or work.trained else 0.0)
    parameters = billions * 1e9
    batch = max(1, int(config.policy.batch_tokens / (assumed.prompt_tokens + config.policy.max_new_tokens)))
    step = max(1 / assumed.decoding_steps_a_second, 2 * parameters / assumed.bytes_a_second)
    learning = work.trained * 10 * parameters / assumed.training_flops
    return replace(work, hours=(work.sampled * step / batch + learning) / 3600)


def size_in_name(model: str) -> float:
    """Billions of parameters as a model's name has them (``Qwen2.5-7B``, ``smollm2-135m``); 0 where it has none."""
    found = _SIZE.search(model.rsplit("/", 1)[-1])
    if found is None:
        return 0.0
    return float(found[1]) * (1.0 if found[2] in "bB" else 1e-3)


def cost_of(config: RunConfig, work: Work) -> float | None:
    """US dollars of the instructor's tokens; None where the price is not known, 0 where nobody is asked over HTTP."""
    if not config.instructor.startswith("openai:"):
        return 0.0 if config.instructor or not work.calls else None
    from taskdef.instruct.chat import Usage
    from taskdef.instruct.openai_compatible import parse_endpoint
    from taskdef.instruct.prices import Prices

    model, base_url = parse_endpoint(config.instructor.removeprefix("openai:"))
    prices = Prices(model, base_url or "https://api.openai.com/v1", config.instruct)
    return prices.cost(Usage(round(work.tokens_read), round(work.tokens_written), 0)) if prices.known else None
