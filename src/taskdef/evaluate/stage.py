"""Stage 6: base model, warm-up and tuned model on the same held-out rows (paper section 4.1: zero-shot accuracy).

Each model answers every row once, greedily. Every completion is read twice, strictly and leniently, so that a gain
in format and a gain in answers can be told apart. Models are loaded one after another: only one is in memory.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskdef.errors import TestSetError
from taskdef.evaluate.overlap import count_overlap, seen_inputs
from taskdef.evaluate.records import Accuracy, Comparison, Evaluation, ModelResult, Reading
from taskdef.evaluate.statistics import mcnemar_exact, wilson_interval
from taskdef.policy.attempts import AttemptFile, Problem, attempt_problems
from taskdef.policy.protocol import Policy
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Attempt, TaskDefinition, TestRow, Verdict
from taskdef.store import StageDirectory
from taskdef.verify.isolated import Verifier

ROWS_FILE = "test_rows.jsonl"
EVALUATION_FILE = "evaluation.json"

COMPARISONS: tuple[tuple[str, Reading, str, Reading], ...] = (
    ("tuned", "strict", "base", "lenient"),
    ("tuned", "strict", "base", "strict"),
    ("tuned", "strict", "warm_up", "strict"),
    ("warm_up", "strict", "base", "strict"),
)
"""The hardest first: against the base model's lenient reading nothing can be gained by learning the format alone."""


def evaluate_models(
    definition: TaskDefinition,
    rows: Sequence[TestRow],
    models: Mapping[str, Callable[[], Policy]],
    *,
    verifier: Verifier,
    seed: int,
    directory: StageDirectory | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Greedy zero-shot accuracy of each model on the held-out rows, and the comparisons between them.

    ``models`` maps ``base``, ``warm_up`` and ``tuned`` to factories; a model whose attempts all stand on disk is not
    loaded again. With ``directory``, attempts are appended to ``attempts-<model>.jsonl`` chunk by chunk, an
    interrupted evaluation goes on where it stopped, ``test_rows.jsonl`` and ``evaluation.json`` are written, and the
    rows are looked for among everything the run has scored and trained on.

    Raises TestSetError for no rows, RunError where attempts on disk belong to other rows.
    """
    if not rows:
        raise TestSetError(
            f"{definition.name}: no held-out rows to evaluate on",
            next_step="give the definition a test set (`test:` in task.yaml), or stop before it with --until train",
        )
    progress = progress or SilentProgress()
    if directory is not None:
        directory.open()
        directory.write_records(ROWS_FILE, rows)
    attempts = {
        name: _attempt_rows(name, load, rows, verifier, seed, directory, progress) for name, load in models.items()
    }
    overlap = count_overlap(rows, seen_inputs(directory.run)) if directory is not None else {}
    evaluation = Evaluation(
        rows=len(rows),
        models={name: score(given) for name, given in attempts.items()},
        comparisons=tuple(
            compare(a, attempts[a], a_reading, b, attempts[b], b_reading)
            for a, a_reading, b, b_reading in COMPARISONS
            if a in attempts and b in attempts
        ),
        overlap=overlap,
    )
    if directory is not None:
        directory.write_json(EVALUATION_FILE, evaluation.model_dump(mode="json"))
    return evaluation


def artifact_names(evaluation: Evaluation) -> list[str]:
    """The files that belong into the stage's manifest."""
    return [ROWS_FILE, *(attempts_file(name) for name in evaluation.models), EVALUATION_FILE]


def attempts_file(model: str) -> str:
    """The file that holds one model's attempts."""
    return f"attempts-{model}.jsonl"


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """The figures for the manifest: what ``taskdef show`` prints without reading the artifacts."""
    return {
        "rows": evaluation.rows,
        "accuracy": {
            name: {"strict": result.strict.share, "lenient": result.lenient.share}
            for name, result in evaluation.models.items()
        },
        "verifier_errors": {
            name: result.verdicts[Verdict.VERIFIER_ERROR] for name, result in evaluation.models.items()
        },
        "comparisons": [
            {
                "what": f"{one.a} {one.a_reading} against {one.b} {one.b_reading}",
                "points": one.difference_points,
                "p": one.p_value,
            }
            for one in evaluation.comparisons
        ],
        "overlap": {name: pool.found for name, pool in evaluation.overlap.items()},
    }


def score(attempts: Sequence[Attempt]) -> ModelResult:
    """Accuracies under both readings, and the verdicts counted, of one attempt a row."""
    strict = [attempt.verdict for attempt in attempts]
    lenient = [_verdict(attempt, "lenient") for attempt in attempts]
    return ModelResult(
        rows=len(attempts),
        strict=_accuracy(strict),
        lenient=_accuracy(lenient),
        verdicts={verdict: strict.count(verdict) for verdict in Verdict},
        lenient_verdicts={verdict: lenient.count(verdict) for verdict in Verdict},
        mean_tokens=sum(attempt.token_count for attempt in attempts) / len(attempts) if attempts else None,
    )


def compare(
    a: str, a_attempts: Sequence[Attempt], a_reading: Reading, b: str, b_attempts: Sequence[Attempt], b_reading: Reading
) -> Comparison:
    """a against b, row by row (both lists in the order of the rows)."""
    verdicts = [
        (_verdict(of_a, a_reading), _verdict(of_b, b_reading))
        for of_a, of_b in zip(a_attempts, b_attempts, strict=True)
    ]
    judged = [pair for pair in verdicts if Verdict.VERIFIER_ERROR not in pair]
    right = [(of_a is Verdict.CORRECT, of_b is Verdict.CORRECT) for of_a, of_b in judged]
    only_a, only_b = right.count((True, False)), right.count((False, True))
    return Comparison(
        a=a,
        a_reading=a_reading,
        b=b,
        b_reading=b_reading,
        pairs=len(judged),
        missing=len(verdicts) - len(judged),
        only_a=only_a,
        only_b=only_b,
        difference_points=100 * (only_a - only_b) / len(judged) if judged else None,
        p_value=mcnemar_exact(only_a, only_b) if judged else None,
    )


def _attempt_rows(
    name: str,
    load: Callable[[], Policy],
    rows: Sequence[TestRow],
    verifier: Verifier,
    seed: int,
    directory: StageDirectory | None,
    progress: Progress,
) -> list[Attempt]:
    """One model's greedy attempts on all rows; the model is not loaded where all of them stand on disk."""
    file = AttemptFile(directory, attempts_file(name)) if directory is not None else None
    if file is not None:
        attempts = file.directory.read_partial(file.name, Attempt)
        if [attempt.sample_id for attempt in attempts] == [row.id for row in rows]:
            return attempts
    policy = load()
    attempts = attempt_problems(
        policy,
        [Problem.of(row) for row in rows],
        count=1,
        temperature=0.0,
        seed=seed,
        label=f"evaluate {name.replace('_', '-')}",
        verifier=verifier,
        progress=progress,
        lenient=True,
        file=file,
    )
    del policy
    gc.collect()  # models hold reference cycles; the next one must find the memory free
    return attempts


def _verdict(attempt: Attempt, reading: Reading) -> Verdict:
    """The verdict under a reading; an attempt never read leniently is missing data there."""
    if reading == "strict":
        return attempt.verdict
    return attempt.lenient_verdict or Verdict.VERIFIER_ERROR


def _accuracy(verdicts: Sequence[Verdict]) -> Accuracy:
    judged = [verdict for verdict in verdicts if verdict is not Verdict.VERIFIER_ERROR]
    if not judged:
        return Accuracy(correct=0, judged=0, share=None, low=None, high=None)
    correct = judged.count(Verdict.CORRECT)
    low, high = wilson_interval(correct, len(judged))
    return Accuracy(correct=correct, judged=len(judged), share=correct / len(judged), low=low, high=high)
