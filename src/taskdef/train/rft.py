r"""RFT: rejection-sampling fine-tuning, learning from one's own correct solutions (arXiv 2406.14532; 2308.01825).

Of every prompt x with label a, k completions of the starting model pi_0 are sampled, and

    D = { (x, y) : y ~ pi_0(. | x),  y ends in a,  no equation in y is wrong,  y distinct from the others kept }

with a cap on the number kept of a prompt. Then SFT on D (and on the verified solutions), from pi_0. What counts as
distinct is in ``solutions``, what as wrong in ``equations``; the attempts are those of ``attempts``.
"""

from __future__ import annotations

from collections import Counter

from taskdef.errors import RunError
from taskdef.records import Record
from taskdef.train.attempts import ATTEMPTS_FILE, gather_attempts
from taskdef.train.job import Training, TrainingJob
from taskdef.train.sft import make_lessons, train_on_lessons
from taskdef.train.solutions import Fate, choose_solutions

SOLUTIONS_FILE = "solutions.jsonl"


class Solution(Record):
    """One solution that is learned."""

    sample_id: str
    text: str
    own: bool
    """Whether the model wrote it itself; else it is the sample's verified one."""


def train_rft(job: TrainingJob) -> Training:
    """RFT on the job's samples. Raises RunError where no solution is left to learn from."""
    settings, limit = job.config.train.rft, job.config.policy.max_new_tokens
    gathered = gather_attempts(job, count=settings.attempts, temperature=settings.temperature)
    fates: Counter[Fate] = Counter()
    solutions: list[Solution] = []
    for sample in job.samples:
        verified = sample.solution if settings.with_verified else None
        attempts = gathered.by_sample[sample.id]
        kept, of_sample = choose_solutions(attempts, settings, max_new_tokens=limit, verified=verified)
        fates += of_sample
        if verified is not None:
            solutions.append(Solution(sample_id=sample.id, text=verified, own=False))
        solutions += [Solution(sample_id=sample.id, text=text, own=True) for text in kept]
    if not solutions:
        raise RunError(
            f"rft: none of {fates.total()} attempts on {len(job.samples)} samples is a solution to learn from "
            f"({', '.join(f'{fate} {count}' for fate, count in fates.items())})",
            next_step="learn the verified solutions too (train.rft.with_verified), or more train.rft.attempts",
        )
    job.directory.write_records(SOLUTIONS_FILE, solutions)
    inputs = {sample.id: sample.input for sample in job.samples}
    lessons, counts = make_lessons(job.policy, [(inputs[one.sample_id], one.text) for one in solutions])
    steps = train_on_lessons(lessons, job)
    return Training(
        steps,
        {
            "rollouts": gathered.made,
            "attempts_reused": gathered.recorded,
            **counts,
            **{f"attempts_{fate}": fates[fate] for fate in Fate},
        },
        artifacts=[SOLUTIONS_FILE, *([ATTEMPTS_FILE] if gathered.made else [])],
    )
