"""TRL's stepwise supervision: responses as steps, each labelled with whether it can still lead to a correct answer.

For training a process reward model. The responses are those that ``train.method=stepwise`` looked into: wrong ones
with Q after every step, and beside them correct ones. A step of a wrong response is labelled true where any rollout
from it was correct (Q > 0): Math-Shepherd's hard estimation (arXiv 2312.08935, section 3.3). Every step of a correct
response is labelled true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from taskdef.errors import RunError
from taskdef.export.rows import Rows
from taskdef.export.samples import read_samples, styled_prompt
from taskdef.records import Stage, Verdict
from taskdef.store import RunDirectory

Decode = Callable[[list[int]], str]


def step_rows(run: RunDirectory) -> Rows:
    """``prompt``, ``completions`` (the steps), ``labels``. Raises RunError where the run did not train per step."""
    directory = run.stage(Stage.TRAIN)
    if not directory.is_done() or run.config.train.method != "stepwise":
        raise RunError(
            f"{run.path}: steps are known where train.method=stepwise is done, "
            f"and this run's is {run.config.train.method}",
            next_step=f"taskdef train {run.quoted_path} --method stepwise",
        )
    from taskdef.policy.load import load_tokenizer

    tokenizer = load_tokenizer(run.model_path)

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    samples = {sample.id: sample for sample in read_samples(run, "training")}
    left_out: Counter[str] = Counter()
    rows = [*_wrong(run, decode, left_out), *_correct(run, decode, frozenset(tokenizer.all_special_ids), left_out)]
    order = {sample_id: place for place, sample_id in enumerate(samples)}
    rows.sort(key=lambda row: order[row["sample_id"]])
    return Rows(
        [{"prompt": styled_prompt(run, samples[row["sample_id"]], "plain")} | row for row in rows],
        "responses",
        left_out,
    )


def _wrong(run: RunDirectory, decode: Decode, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    from taskdef.train.q_values import StepValues
    from taskdef.train.stepwise import STEPS_FILE

    for values in run.stage(Stage.TRAIN).read_records(STEPS_FILE, StepValues):
        texts = [decode(list(values.ids[:end])) for end in (0, *values.ends)]
        steps = [after[len(before) :].strip() for before, after in pairwise(texts)]
        if all(steps):
            yield _row(values.problem_id, steps, [value > 0 for value in values.values[1:]])
        else:
            left_out["responses_with_an_empty_step"] += 1


def _correct(
    run: RunDirectory, decode: Decode, special_ids: frozenset[int], left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Different correct responses, at most as many of a problem as wrong ones are looked into."""
    from taskdef.train.pits import without_stop
    from taskdef.train.rollouts import PrefixRollouts
    from taskdef.train.steps import LINES, SENTENCES, split_steps
    from taskdef.train.stepwise import ROLLOUTS_FILE

    settings = run.config.train.stepwise
    gap = {"lines": LINES, "sentences": SENTENCES}[settings.steps]
    for made in run.stage(Stage.TRAIN).read_records(ROLLOUTS_FILE, PrefixRollouts):
        if made.prefix:
            continue
        solved = dict.fromkeys(rollout.ids for rollout in made.rollouts if rollout.verdict is Verdict.CORRECT)
        left_out["correct_responses_beyond_the_wrong_ones"] += max(0, len(solved) - settings.wrong_responses)
        for ids in list(solved)[: settings.wrong_responses]:
            steps = split_steps(without_stop(ids, special_ids), decode, gap=gap, most=settings.most_steps)
            yield _row(made.problem_id, [step.text.strip() for step in steps], [True] * len(steps))


def _row(sample_id: str, steps: Sequence[str], labels: Sequence[bool]) -> dict[str, Any]:
    return {"completions": list(steps), "labels": list(labels), "sample_id": sample_id}
