"""TRL's data set types: prompt-only, prompt-completion, language modeling as messages, preference.

Each has the columns that TRL's documentation names ("Dataset formats and types"), and ``sample_id``, by which a row is
found again in the run; trainers pass it by.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from taskdef.errors import RunError
from taskdef.export.rows import Rows
from taskdef.export.samples import Style, Which, read_samples, styled_completion, styled_prompt, user_message
from taskdef.records import Attempt, Sample, Stage
from taskdef.store import RunDirectory
from taskdef.train.pairs import AttemptPair, pair_attempts

PAIRS_FILE = "pairs.jsonl"


def prompt_rows(run: RunDirectory, which: Which, style: Style) -> Rows:
    """Prompt-only, for GRPO and its kind: ``prompt``, with ``answer`` (the label) and ``solution`` for the reward."""
    return Rows(
        [
            {
                "prompt": styled_prompt(run, sample, style),
                "answer": sample.answer,
                "solution": sample.solution,
                "sample_id": sample.id,
            }
            for sample in read_samples(run, which)
        ],
        "prompts",
    )


def completion_rows(run: RunDirectory, which: Which, style: Style) -> Rows:
    """Prompt-completion, for SFT on the completion alone: the verified solutions."""
    return Rows(
        [
            {
                "prompt": styled_prompt(run, sample, style),
                "completion": styled_completion(sample.solution, style),
                "sample_id": sample.id,
            }
            for sample in read_samples(run, which)
        ],
        "prompts with completions",
    )


def message_rows(run: RunDirectory, which: Which) -> Rows:
    """Whole conversations of two messages, for SFT."""
    return Rows(
        [
            {
                "messages": [*user_message(run, sample), *styled_completion(sample.solution, "chat")],
                "sample_id": sample.id,
            }
            for sample in read_samples(run, which)
        ],
        "conversations",
    )


def preference_rows(run: RunDirectory, style: Style) -> Rows:
    """Preference with an explicit prompt, for DPO: a correct beside an incorrect attempt of the starting model.

    A run of ``train.method=dpo`` gives the pairs it learned from; any other the pairs that DPO would make of the
    attempts scoring made, under the run's ``train.dpo``. Raises RunError where there are none.
    """
    samples = {sample.id: sample for sample in read_samples(run, "training")}
    directory = run.stage(Stage.TRAIN)
    left_out: Counter[str] = Counter()
    if directory.is_done() and (directory.path / PAIRS_FILE).exists():
        pairs = directory.read_records(PAIRS_FILE, AttemptPair)
    else:
        pairs, left_out = _pairs_of_scoring(run, samples)
    if not pairs:
        reasons = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in left_out.items() if count)
        raise RunError(
            f"{run.path}: the attempts on {len(samples)} samples give no pair ({reasons or 'no attempt is recorded'})",
            next_step=f"taskdef train {run.quoted_path} --method dpo, which makes more attempts",
        )
    return Rows(
        [
            {
                "prompt": styled_prompt(run, samples[pair.sample_id], style),
                "chosen": styled_completion(pair.chosen, style),
                "rejected": styled_completion(pair.rejected, style),
                "sample_id": pair.sample_id,
            }
            for pair in pairs
        ],
        "pairs",
        left_out,
    )


def _pairs_of_scoring(run: RunDirectory, samples: dict[str, Sample]) -> tuple[list[AttemptPair], Counter[str]]:
    attempts: dict[str, list[Attempt]] = {sample_id: [] for sample_id in samples}
    recorded = run.stage(Stage.SELECT).read_records("attempts.jsonl", Attempt)
    for sample_id, group in groupby(recorded, key=lambda attempt: attempt.sample_id):
        if sample_id in attempts:
            attempts[sample_id] += group
    pairs: list[AttemptPair] = []
    left_out: Counter[str] = Counter()
    for sample in samples.values():
        found, of_sample = pair_attempts(
            sample,
            attempts[sample.id],
            run.config.train.dpo,
            max_new_tokens=run.config.policy.max_new_tokens,
            seed=run.config.seed,
        )
        pairs += found
        left_out += of_sample
    return pairs, left_out
