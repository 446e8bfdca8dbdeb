r"""SFT: supervised fine-tuning on solutions (arXiv 2505.17063, section 4.1: the baseline).

For prompts x and wanted completions y the loss is the mean over all tokens of all completions of the step

    - log pi(y_t | x, y_<t)

The prompt's tokens carry no loss; the end-of-sequence token that closes a completion does. TRL computes it. It is given
token ids: the prompt as it is in scoring and evaluation, and a completion that begins where the prompt's tokens end. On
CPUs the head runs where a completion's token is predicted, and what prompts begin with goes through the model once
(``learned_tokens``); on GPUs TRL's own kernels do the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from taskdef.errors import RunError
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.records import TrainingStep
from taskdef.train.job import Training, TrainingJob
from taskdef.train.learned_tokens import LearnedTokens, can_stand_in
from taskdef.train.loop import fit, schedule_arguments

_NO_LOSS = -100


@dataclass(frozen=True)
class Lesson:
    """A prompt and the completion to learn, as token ids; the completion ends in the end-of-sequence token."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def train_sft(job: TrainingJob) -> Training:
    """SFT on the samples' verified solutions."""
    lessons, counts = make_lessons(job.policy, [(sample.input, sample.solution) for sample in job.samples])
    return Training(train_on_lessons(lessons, job), counts)


def make_lessons(policy: TransformersPolicy, texts: Sequence[tuple[str, str]]) -> tuple[list[Lesson], dict[str, int]]:
    """Lessons from (input, solution) texts, and how many there are; those beyond the model's context are left out.

    Raises RunError where none is left.
    """
    encode = policy.encoder
    made = [Lesson(tuple(encode.prompt_ids(given)), tuple(encode.completion_ids(wanted))) for given, wanted in texts]
    context = policy.context
    kept = [one for one in made if context is None or len(one.prompt_ids) + len(one.completion_ids) <= context]
    if not kept:
        raise RunError(
            f"nothing to learn from: of {len(made)} solutions none fits the model's context of {context} tokens",
            next_step="ask for shorter solutions in output_format, or choose a base model with a longer context",
        )
    return kept, {"solutions": len(kept), "beyond_context": len(made) - len(kept)}


def train_on_lessons(lessons: Sequence[Lesson], job: TrainingJob) -> list[TrainingStep]:
    """SFT of the job's model with ``train.sft``; see ``loop.fit``."""
    train, use_cpu = job.config.train, job.policy.model.device.type == "cpu"
    given = schedule_arguments(
        train, train.sft, job.directory, rows=len(lessons), seed=job.config.seed, use_cpu=use_cpu
    )
    arguments = SFTConfig(**given, dataset_kwargs={"skip_prepare_dataset": True}, loss_type="nll")

    def trainer(**common: Any) -> SFTTrainer:
        return LessonTrainer(**common, train_dataset=lesson_dataset(lessons))

    return fit(
        job.policy,
        train,
        arguments,
        trainer,
        directory=job.directory,
        model_path=job.model_path,
        progress=job.progress,
    )


class LessonTrainer(SFTTrainer):
    """TRL's SFT trainer, on a CPU with prompts that share what they begin with and a head that does not run on them."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """As TRL's."""
        if self.model.device.type == "cpu" and can_stand_in(self):
            model = LearnedTokens(self, model)
        return super().compute_loss(model, inputs, *rest, **named)


def lesson_dataset(lessons: Sequence[Lesson]) -> Dataset:
    """The lessons in the columns that TRL's collator reads; the prompt carries no loss."""
    return Dataset.from_list(
        [
            {
                "input_ids": [*lesson.prompt_ids, *lesson.completion_ids],
                "labels": [*[_NO_LOSS] * len(lesson.prompt_ids), *lesson.completion_ids],
            }
            for lesson in lessons
        ]
    )
