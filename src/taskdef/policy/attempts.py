"""Attempts of a policy on problems, judged: shared by adaptation, scoring, warm-up and evaluation.

Work goes in chunks; with a directory every chunk is appended to disk when done, so a kill costs at most one. A chunk's
seed depends on the run's seed, the label, the round and the chunk's place in it: going on gives what an undisturbed run
gives.
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
    rounds = AttemptRounds(
        policy,
        temperature=temperature,
        seed=seed,
        label=label,
        verifier=verifier,
        progress=progress,
        lenient=lenient,
        file=file,
    )
    attempts = rounds.make(problems, count)
    rounds.finish()
    return attempts


class AttemptRounds:
    """Attempts made in rounds, where a round's problems depend on what came of the rounds before.

    All rounds stand in one file, one after the other. A later process asks for the same rounds again and gets what is
    on disk, so it comes to the same questions and goes on from there.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        temperature: float,
        seed: int,
        label: str,
        verifier: Verifier,
        progress: Progress,
        lenient: bool = False,
        file: AttemptFile | None = None,
    ) -> None:
        self._policy = policy
        self._temperature = temperature
        self._seed = seed
        self._label = label
        self._verifier = verifier
        self._progress = progress
        self._lenient = lenient
        self._file = file
        self._on_disk = file.directory.read_partial(file.name, Attempt) if file is not None else []
        self._claimed = 0
        """How many of the attempts on disk the rounds so far have asked for."""
        self._rounds = 0

    def make(self, problems: Sequence[Problem], count: int, note: str = "") -> list[Attempt]:
        """One round: ``count`` attempts on each problem, in their order. ``note`` joins the label on the screen.

        Raises RunError where attempts on disk belong to other problems.
        """
        size = max(1, CHUNK_COMPLETIONS // count)
        attempts = self._claim(problems, count, size)
        self._progress.start(self._label + note, len(problems), len(attempts) // count)
        for start in range(len(attempts) // count, len(problems), size):
            chunk = problems[start : start + size]
            judged = self._attempt(chunk, count, start)
            if self._file is not None:
                self._file.directory.append_records(self._file.name, judged)
            attempts += judged
            correct = sum(attempt.verdict is Verdict.CORRECT for attempt in attempts)
            self._progress.advance(len(chunk), f"{100 * correct / len(attempts):.1f}% correct")
        self._progress.finish()
        self._rounds += 1
        return attempts

    def finish(self) -> None:
        """No more rounds. Raises RunError where attempts are left on disk that none of them asked for."""
        if self._file is not None and self._claimed < len(self._on_disk):
            raise self._foreign(self._file)

    def _attempt(self, chunk: Sequence[Problem], count: int, start: int) -> list[Attempt]:
        groups = self._policy.complete(
            [problem.input for problem in chunk],
            count=count,
            temperature=self._temperature,
            # without its round in the seed, a later round would draw what the first one drew
            seed=derived_seed(self._seed, self._label, start, *([self._rounds] if self._rounds else [])),
        )
        pairs = [(problem, each) for problem, group in zip(chunk, groups, strict=True) for each in group]
        judgements = self._verifier.judge(
            [(each.text, problem.gold, each.truncated) for problem, each in pairs], self._lenient
        )
        return [
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

    def _claim(self, problems: Sequence[Problem], count: int, chunk_problems: int) -> list[Attempt]:
        """What an interrupted process left of this round, cut back to whole chunks."""
        if self._file is None:
            return []
        expected = [problem.id for problem in problems for _ in range(count)]
        found = self._on_disk[self._claimed : self._claimed + len(expected)]
        if [attempt.sample_id for attempt in found] != expected[: len(found)]:
            raise self._foreign(self._file)
        chunk = chunk_problems * count
        whole = len(found) if len(found) == len(expected) else len(found) // chunk * chunk
        if whole < len(found):
            self._on_disk = self._on_disk[: self._claimed + whole]
            self._file.directory.write_records(self._file.name, self._on_disk)
        self._claimed += whole
        return found[:whole]

    def _foreign(self, file: AttemptFile) -> RunError:
        return RunError(
            f"{file.directory.path / file.name}: its {len(self._on_disk)} attempts belong to other inputs",
            next_step=f"start the stage again with --fresh {file.directory.stage.value}",
        )


def readable_share(attempts: Sequence[Attempt]) -> float | None:
    """Share of attempts in which an answer could be read; verifier errors are missing data. None if all are."""
    judged = [attempt for attempt in attempts if attempt.verdict is not Verdict.VERIFIER_ERROR]
    readable = sum(attempt.verdict in (Verdict.CORRECT, Verdict.WRONG) for attempt in judged)
    return readable / len(judged) if judged else None
