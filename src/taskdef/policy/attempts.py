"""Attempts of a policy on problems, judged: shared by adaptation, scoring, warm-up and evaluation.

Work goes in chunks; with a directory every chunk is appended to disk when done, so a kill costs at most one. A chunk's
seed depends on the run's seed, the label and the chunk's place alone: going on gives what an undisturbed run gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from taskdef.errors import RunError
from taskdef.policy.protocol import Policy
from taskdef.progress import Progress
from taskdef.records import Attempt, Sample, TestRow, Verdict
from taskdef.store import StageDirectory
from taskdef.verify.isolated import Verifier

CHUNK_COMPLETIONS = 512
"""Completions between two writes."""


@dataclass(frozen=True)
class Problem:
    """What is attempted: an input and the answer it is judged by."""

    id: str
    input: str
    gold: str

    @classmethod
    def of(cls, item: Sample | TestRow) -> Problem:
        return cls(id=item.id, input=item.input, gold=item.answer)


@dataclass(frozen=True)
class AttemptFile:
    """Where attempts are kept while they are made."""

    directory: StageDirectory
    name: str


def derived_seed(*parts: object) -> int:
    """A 32-bit seed from anything printable: equal parts give equal seeds, unequal parts unrelated ones."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:4], "big")


def attempt_problems(
    policy: Policy,
    problems: Sequence[Problem],
    *,
    count: int,
    temperature: float,
    seed: int,
    label: str,
    verifier: Verifier,
    progress: Progress,
    lenient: bool = False,
    file: AttemptFile | None = None,
) -> list[Attempt]:
    """``count`` attempts on each problem, in the order of the problems; len(problems) x count records.

    ``label`` names the work to the person watching and tells its random draws from other work's. Raises RunError
    where attempts on disk belong to other problems.
    """
    size = max(1, CHUNK_COMPLETIONS // count)
    attempts = _attempts_on_disk(file, problems, count, size)
    progress.start(label, len(problems), len(attempts) // count)
    for start in range(len(attempts) // count, len(problems), size):
        chunk = problems[start : start + size]
        groups = policy.complete(
            [problem.input for problem in chunk],
            count=count,
            temperature=temperature,
            seed=derived_seed(seed, label, start),
        )
        pairs = [(problem, each) for problem, group in zip(chunk, groups, strict=True) for each in group]
        judgements = verifier.judge([(each.text, problem.gold, each.truncated) for problem, each in pairs], lenient)
        judged = [
            Attempt(
                sample_id=problem.id,
                text=each.text,
                answer=judgement.answer,
                verdict=judgement.verdict,
                token_count=each.token_count,
                lenient_verdict=judgement.lenient_verdict,
            )
            for (problem, each), judgement in zip(pairs, judgements, strict=True)
        ]
        if file is not None:
            file.directory.append_records(file.name, judged)
        attempts += judged
        correct = sum(attempt.verdict is Verdict.CORRECT for attempt in attempts)
        progress.advance(len(chunk), f"{100 * correct / len(attempts):.1f}% correct")
    progress.finish()
    return attempts


def readable_share(attempts: Sequence[Attempt]) -> float | None:
    """Share of attempts in which an answer could be read; verifier errors are missing data. None if all are."""
    judged = [attempt for attempt in attempts if attempt.verdict is not Verdict.VERIFIER_ERROR]
    readable = sum(attempt.verdict in (Verdict.CORRECT, Verdict.WRONG) for attempt in judged)
    return readable / len(judged) if judged else None


def _attempts_on_disk(
    file: AttemptFile | None, problems: Sequence[Problem], count: int, chunk_problems: int
) -> list[Attempt]:
    """What an interrupted process left, cut back to whole chunks."""
    if file is None:
        return []
    attempts = file.directory.read_partial(file.name, Attempt)
    expected = [problem.id for problem in problems for _ in range(count)]
    if [attempt.sample_id for attempt in attempts] != expected[: len(attempts)]:
        stage = file.directory.stage.value
        raise RunError(
            f"{file.directory.path / file.name}: its {len(attempts)} attempts belong to other inputs",
            next_step=f"start the stage again with --fresh {stage}",
        )
    chunk = chunk_problems * count
    whole = len(attempts) if len(attempts) == len(expected) else len(attempts) // chunk * chunk
    if whole < len(attempts):
        file.directory.write_records(file.name, attempts[:whole])
    return attempts[:whole]
