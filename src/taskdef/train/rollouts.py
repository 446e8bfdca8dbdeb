"""Rollouts from prefixes of responses, judged: each prefix once, in rounds, kept on disk while they are made.

A round asks for prefixes; those that an earlier one asked for are not sampled again. What is new goes in chunks, and
every chunk is appended to the file when done. A chunk's seed depends on the run's seed, the label and how many
prefixes stand before it, so a process that goes on gives what an undisturbed one gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskdef.errors import RunError
from taskdef.policy.attempts import CHUNK_COMPLETIONS, AttemptFile, Problem, derived_seed
from taskdef.policy.protocol import PrefixPolicy
from taskdef.progress import Progress
from taskdef.records import Record, Verdict
from taskdef.verify.isolated import Verifier


@dataclass(frozen=True)
class Prefix:
    """A response begun: the problem it answers and its first tokens."""

    problem: Problem
    ids: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        """What makes two prefixes equal."""
        return self.problem.id, self.ids


class Rollout(Record):
    """One continuation of a prefix to its end."""

    ids: tuple[int, ...]
    """The continuation's tokens; a stop token ends them where it ended by itself."""
    verdict: Verdict
    """On the prefix and the continuation together."""


class PrefixRollouts(Record):
    """All rollouts of one prefix."""

    problem_id: str
    prefix: tuple[int, ...]
    rollouts: tuple[Rollout, ...]

    @property
    def judged(self) -> int:
        """Rollouts with a verdict about the model; verifier errors are missing data."""
        return sum(rollout.verdict is not Verdict.VERIFIER_ERROR for rollout in self.rollouts)

    @property
    def correct(self) -> int:
        """Rollouts that solved the problem."""
        return sum(rollout.verdict is Verdict.CORRECT for rollout in self.rollouts)


class RolloutCounts(Record):
    """What the rollouts cost and how many say less than they should."""

    asked: int
    """Prefixes asked for, equal ones each time."""
    prefixes: int
    """Prefixes rolled out."""
    rollouts: int
    tokens: int
    """Tokens sampled."""
    truncated: int
    """Rollouts that the token limit cut before their answer was complete: they count as failures."""
    verifier_errors: int
    """Rollouts without a verdict: they do not count."""

    @property
    def truncation_rate(self) -> float | None:
        """Share of truncated rollouts; None where there are none at all."""
        return self.truncated / self.rollouts if self.rollouts else None


class RolloutRounds:
    """``count`` rollouts of every prefix asked for, at ``temperature``; see the module.

    ``label`` names the work to the person watching and tells its random draws from other work's.
    """

    def __init__(
        self,
        policy: PrefixPolicy,
        *,
        count: int,
        temperature: float,
        seed: int,
        label: str,
        verifier: Verifier,
        progress: Progress,
        file: AttemptFile | None = None,
    ) -> None:
        self.count = count
        self._policy = policy
        self._temperature = temperature
        self._seed = seed
        self._label = label
        self._verifier = verifier
        self._progress = progress
        self._file = file
        self._on_disk = file.directory.read_partial(file.name, PrefixRollouts) if file is not None else []
        self._made: dict[tuple[str, tuple[int, ...]], PrefixRollouts] = {}
        self._asked = 0

    def make(self, prefixes: Sequence[Prefix], note: str = "") -> list[PrefixRollouts]:
        """One round, in the order of the prefixes. ``note`` joins the label on the screen.

        Raises RunError where the rollouts on disk belong to other prefixes.
        """
        self._asked += len(prefixes)
        new = list({prefix.key: prefix for prefix in prefixes if prefix.key not in self._made}.values())
        if not new:
            return [self._made[prefix.key] for prefix in prefixes]
        size = max(1, CHUNK_COMPLETIONS // self.count)
        claimed = self._claim(new, size)
        self._progress.start(self._label + note, len(new), claimed)
        for start in range(claimed, len(new), size):
            chunk = new[start : start + size]
            done = self._roll_out(chunk)
            if self._file is not None:
                self._file.directory.append_records(self._file.name, done)
            self._made |= {prefix.key: result for prefix, result in zip(chunk, done, strict=True)}
            solved = sum(result.correct for result in done) / (self.count * len(done))
            self._progress.advance(len(chunk), f"{100 * solved:.1f}% correct")
        self._progress.finish()
        return [self._made[prefix.key] for prefix in prefixes]

    def finish(self) -> RolloutCounts:
        """No more rounds. Raises RunError where rollouts are left on disk that none of them asked for."""
        if self._file is not None and len(self._made) < len(self._on_disk):
            raise self._foreign(self._file)
        rollouts = [rollout for made in self._made.values() for rollout in made.rollouts]
        return RolloutCounts(
            asked=self._asked,
            prefixes=len(self._made),
            rollouts=len(rollouts),
            tokens=sum(len(rollout.ids) for rollout in rollouts),
            truncated=sum(rollout.verdict is Verdict.TRUNCATED for rollout in rollouts),
            verifier_errors=sum(rollout.verdict is Verdict.VERIFIER_ERROR for rollout in rollouts),
        )

    def _roll_out(self, chunk: Sequence[Prefix]) -> list[PrefixRollouts]:
        groups = self._policy.continue_prefixes(
            [(prefix.problem.input, prefix.ids) for prefix in chunk],
            count=self.count,
            temperature=self._temperature,
            seed=derived_seed(self._seed, self._label, len(self._made)),
        )
        whole = [
            self._policy.as_completion([*prefix.ids, *ids])
            for prefix, group in zip(chunk, groups, strict=True)
            for ids in group
        ]
        gold = [prefix.problem.gold for prefix in chunk for _ in range(self.count)]
        judgements = self._verifier.judge(
            [(each.text, answer, each.truncated) for each, answer in zip(whole, gold, strict=True)]
        )
        verdicts = iter([judgement.verdict for judgement in judgements])
        return [
            PrefixRollouts(
                problem_id=prefix.problem.id,
                prefix=prefix.ids,
                rollouts=tuple(Rollout(ids=tuple(ids), verdict=next(verdicts)) for ids in group),
            )
            for prefix, group in zip(chunk, groups, strict=True)
        ]

    def _claim(self, new: Sequence[Prefix], chunk: int) -> int:
        """Take over what an interrupted process left of this round, cut back to whole chunks; gives their number."""
        if self._file is None:
            return 0
        start = len(self._made)
        found = self._on_disk[start : start + len(new)]
        same = [
            (each.problem_id, each.prefix) == prefix.key and len(each.rollouts) == self.count
            for each, prefix in zip(found, new, strict=False)
        ]
        if not all(same):
            raise self._foreign(self._file)
        whole = len(found) if len(found) == len(new) else len(found) // chunk * chunk
        if whole < len(found):
            self._on_disk = self._on_disk[: start + whole]
            self._file.directory.write_records(self._file.name, self._on_disk)
        self._made |= {prefix.key: each for prefix, each in zip(new[:whole], found, strict=False)}
        return whole

    def _foreign(self, file: AttemptFile) -> RunError:
        return RunError(
            f"{file.directory.path / file.name}: its rollouts of {len(self._on_disk)} prefixes belong to other "
            "responses or settings",
            next_step=f"start the stage again with --fresh {file.directory.stage.value}",
        )
