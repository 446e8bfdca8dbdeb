r"""DPO on pairs of completions of the same prompt (arXiv 2305.18290, equation 7; arXiv 2406.14532: the control).

With pi_ref the starting model, the loss of a pair of a chosen completion y+ and a rejected one y- is

    -log sigmoid(beta [log pi(y+ | x) / pi_ref(y+ | x)  -  log pi(y- | x) / pi_ref(y- | x)])

where a completion's log-probability is the sum over its tokens. It is ln 2 at the reference. TRL computes it. Three
things differ from its stock trainer:

- pairs come as token ids and are taken as they are. TRL would tokenize texts and end both sides with the
  end-of-sequence token, which on a rejected prefix would teach "do not stop here";
- pi_ref's log-probabilities are computed once, before the first step, from the model that was given: no second model is
  in memory, and none is looked up by the name in the model's config;
- what pairs have in common, a prompt or its beginning, goes through the model once where its attention allows that
  (``learned_tokens``).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from taskdef.config import RunConfig
from taskdef.errors import RunError
from taskdef.policy.shared_prefix import supports_shared_prefix
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import Progress, SilentProgress
from taskdef.records import TrainingStep
from taskdef.store import StageDirectory
from taskdef.train.attempts import ATTEMPTS_FILE, gather_attempts
from taskdef.train.job import Training, TrainingJob
from taskdef.train.learned_tokens import LearnedTokens, can_stand_in
from taskdef.train.loop import fit, schedule_arguments
from taskdef.train.pairs import AttemptPair, pair_attempts

PAIRS_FILE = "pairs.jsonl"


@dataclass(frozen=True)
class Pair:
    """Two completions of a prompt, as token ids. Where a side shall end the response, it holds its stop token."""

    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        for side in ("prompt_ids", "chosen_ids", "rejected_ids"):
            if not getattr(self, side):
                raise ValueError(f"a pair's {side} are empty: there is nothing to learn from")


class PairTrainer(DPOTrainer):
    """TRL's DPO trainer on token ids: prompts are shared, and its reference log-probabilities computed once."""

    @property
    def shares_prompts(self) -> bool:
        return can_stand_in(self) and supports_shared_prefix(self.accelerator.unwrap_model(self.model))

    def _prepare_dataset(self, dataset: Dataset, *_arguments: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        was_training = self.model.training
        self.model.eval()
        chosen: list[float] = []
        rejected: list[float] = []
        rows = dataset.to_list()
        for start in range(0, len(rows), batch_size):
            batch = self._prepare_inputs(self.data_collator(rows[start : start + batch_size]))
            of_chosen, of_rejected = self.compute_ref_log_probs(self.model, batch)
            chosen += of_chosen.tolist()
            rejected += of_rejected.tolist()
        self.model.train(was_training)
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        found: tuple[torch.Tensor, torch.Tensor] = super().compute_ref_log_probs(self._stand_in(model), inputs)
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        return super()._compute_loss(self._stand_in(model), inputs, return_outputs)

    def _stand_in(self, model: Any) -> Any:
        return LearnedTokens(self, model) if self.shares_prompts else model


def train_dpo(job: TrainingJob) -> Training:
    """DPO on pairs of the starting model's correct and incorrect attempts. Raises RunError where there are none."""
    settings, encode = job.config.train.dpo, job.policy.encoder
    gathered = gather_attempts(job, count=settings.attempts, temperature=settings.temperature)
    left_out: Counter[str] = Counter()
    found: list[AttemptPair] = []
    for sample in job.samples:
        attempts, limit = gathered.by_sample[sample.id], job.config.policy.max_new_tokens
        pairs, of_sample = pair_attempts(sample, attempts, settings, max_new_tokens=limit, seed=job.config.seed)
        left_out += of_sample
        found += pairs
    if not found:
        raise RunError(
            f"dpo: {len(job.samples)} samples give no pair of a correct and an incorrect attempt "
            f"({', '.join(f'{name} {count}' for name, count in left_out.items()) or 'none is wrong'})",
            next_step="more attempts (train.dpo.attempts), or a longer policy.max_new_tokens where they are cut",
        )
    job.directory.write_records(PAIRS_FILE, found)
    inputs = {sample.id: sample.input for sample in job.samples}
    steps = train_on_pairs(
        [
            Pair(
                tuple(encode.prompt_ids(inputs[pair.sample_id])),
                tuple(encode.completion_ids(pair.chosen)),
                tuple(encode.completion_ids(pair.rejected)),
            )
            for pair in found
        ],
        job.policy,
        job.config,
        directory=job.directory,
        model_path=job.model_path,
        progress=job.progress,
    )
    counts = {"rollouts": gathered.made, "attempts_reused": gathered.recorded, "pairs": len(found)}
    own = {"pairs_with_verified_solution": sum(not pair.own_chosen for pair in found)}
    return Training(steps, counts | own | left_out, artifacts=[PAIRS_FILE, *([ATTEMPTS_FILE] if gathered.made else [])])


def train_on_pairs(
    pairs: Sequence[Pair],
    policy: TransformersPolicy,
    config: RunConfig,
    *,
    directory: StageDirectory,
    model_path: Path,
    progress: Progress | None = None,
) -> list[TrainingStep]:
    """DPO from the policy's model, which is the reference too, with ``config.train.dpo``; gives the log of all steps.

    The model is trained in place and saved to ``model_path``; checkpoints and log are kept under ``directory``, and
    training goes on from the last checkpoint where there is one. The same pairs must then be given in the same order.
    Raises ValueError where there are no pairs.
    """
    if not pairs:
        raise ValueError("no pairs to train on")
    settings, use_cpu = config.train.dpo, policy.model.device.type == "cpu"
    wanted = settings.steps(len(pairs)) * min(settings.batch, len(pairs))
    if wanted < len(pairs):  # nothing is computed for pairs that no step will reach
        pairs = random.Random(config.seed).sample(pairs, wanted)
    given = schedule_arguments(config.train, settings, directory, rows=len(pairs), seed=config.seed, use_cpu=use_cpu)
    arguments = DPOConfig(**given, beta=settings.beta, loss_type="sigmoid", precompute_ref_log_probs=True)

    progress = progress or SilentProgress()

    def trainer(**common: Any) -> PairTrainer:
        made = PairTrainer(**common, train_dataset=pair_dataset(pairs))
        if not made.shares_prompts:
            progress.line("this model's attention cannot share what pairs begin with: plain forward passes")
        return made

    return fit(
        policy,
        config.train,
        arguments,
        trainer,
        directory=directory,
        model_path=model_path,
        progress=progress,
    )


def pair_dataset(pairs: Sequence[Pair]) -> Dataset:
    """The pairs in the columns that TRL's collator reads."""
    return Dataset.from_list(
        [
            {
                "prompt_ids": list(pair.prompt_ids),
                "chosen_ids": list(pair.chosen_ids),
                "rejected_ids": list(pair.rejected_ids),
            }
            for pair in pairs
        ]
    )
