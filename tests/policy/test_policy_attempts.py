"""Attempts go on where a kill left them and give what an undisturbed process gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from taskdef.config import RunConfig
from taskdef.errors import RunError
from taskdef.policy import attempts as attempts_module
from taskdef.policy.attempts import (
    AttemptFile,
    AttemptRounds,
    Problem,
    attempt_problems,
    derived_seed,
    readable_share,
)
from taskdef.progress import SilentProgress
from taskdef.records import Attempt, Completion, Sample, Stage, TaskDefinition, Verdict
from taskdef.store import RunDirectory
from taskdef.verify.isolated import Verifier


class DicePolicy:
    """Writes a number that follows from the seed; notes the sizes it was asked for; dies on demand."""

    name = "dice"

    def __init__(self, die_after: int | None = None) -> None:
        self.asked: list[int] = []
        self.die_after = die_after

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        if self.die_after == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append(len(inputs))
        return [
            [
                Completion(text=f"#### {derived_seed(seed, text, number) % 30}", token_count=3, truncated=False)
                for number in range(count)
            ]
            for text in inputs
        ]

    def prompt_length(self, sample_input: str) -> int:
        return len(sample_input)

    def prompt_limit(self) -> int:
        return 100


class NotingProgress(SilentProgress):
    def __init__(self) -> None:
        self.started: list[tuple[str, int, int]] = []

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.started.append((label, total, done))


@pytest.fixture
def file(tmp_path: Path, sums: TaskDefinition) -> AttemptFile:
    directory = RunDirectory.create(tmp_path / "run", sums, RunConfig()).stage(Stage.SELECT)
    directory.open()
    return AttemptFile(directory, "attempts.jsonl")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "CHUNK_COMPLETIONS", 10)  # five problems of two attempts


def attempt(
    policy: DicePolicy,
    samples: list[Sample],
    verifier: Verifier,
    file: AttemptFile | None,
    progress: SilentProgress | None = None,
    seed: int = 1,
) -> list[Attempt]:
    return attempt_problems(
        policy,
        [Problem.of(sample) for sample in samples],
        count=2,
        temperature=0.7,
        seed=seed,
        label="score",
        verifier=verifier,
        progress=progress or SilentProgress(),
        file=file,
    )


@pytest.mark.parametrize(
    ("kept_lines", "torn", "asked"),
    [
        (0, "", [5, 5, 2]),
        (10, "", [5, 2]),  # the first chunk stands
        (13, "", [5, 2]),  # a chunk that is half there is made again
        (13, '{"sample_id":"s6","te', [5, 2]),  # a line torn by a kill
        (20, "", [2]),
        (24, "", []),  # all of them
    ],
)
def test_what_is_on_disk_is_kept_and_the_rest_is_as_undisturbed(
    kept_lines: int,
    torn: str,
    asked: list[int],
    sum_samples: list[Sample],
    sums_verifier: Verifier,
    file: AttemptFile,
) -> None:
    undisturbed = attempt(DicePolicy(), sum_samples, sums_verifier, None)
    path = file.directory.path / file.name
    attempt(DicePolicy(), sum_samples, sums_verifier, file)
    whole = path.read_bytes()
    path.write_text("".join(whole.decode().splitlines(keepends=True)[:kept_lines]) + torn)
    policy, progress = DicePolicy(), NotingProgress()
    assert attempt(policy, sum_samples, sums_verifier, file, progress) == undisturbed
    assert policy.asked == asked
    assert path.read_bytes() == whole
    assert progress.started == [("score", 12, 12 - sum(asked))]


def test_an_interrupted_process_leaves_its_whole_chunks(
    sum_samples: list[Sample], sums_verifier: Verifier, file: AttemptFile
) -> None:
    with pytest.raises(KeyboardInterrupt):
        attempt(DicePolicy(die_after=1), sum_samples, sums_verifier, file)
    assert len(file.directory.read_partial(file.name, Attempt)) == 10
    policy = DicePolicy()
    assert attempt(policy, sum_samples, sums_verifier, file) == attempt(DicePolicy(), sum_samples, sums_verifier, None)
    assert policy.asked == [5, 2]


def test_attempts_on_other_inputs_are_refused(
    sum_samples: list[Sample], sums_verifier: Verifier, file: AttemptFile
) -> None:
    attempt(DicePolicy(), sum_samples, sums_verifier, file)
    with pytest.raises(RunError) as caught:
        attempt(DicePolicy(), sum_samples[1:], sums_verifier, file)
    path = file.directory.path / "attempts.jsonl"
    assert str(caught.value) == (
        f"{path}: its 24 attempts belong to other inputs\n  next: start the stage again with --fresh select"
    )


def test_more_attempts_on_disk_than_wanted_are_refused(
    sum_samples: list[Sample], sums_verifier: Verifier, file: AttemptFile
) -> None:
    attempt(DicePolicy(), sum_samples, sums_verifier, file)
    with pytest.raises(RunError, match="its 24 attempts belong to other inputs"):
        attempt(DicePolicy(), sum_samples[:4], sums_verifier, file)


def test_verdicts_and_ids_stand_in_the_order_of_the_problems(
    sum_samples: list[Sample], sums_verifier: Verifier
) -> None:
    attempts = attempt(DicePolicy(), sum_samples, sums_verifier, None)
    assert [each.sample_id for each in attempts] == [sample.id for sample in sum_samples for _ in range(2)]
    gold = {sample.id: sample.answer for sample in sum_samples}
    for each in attempts:
        right = each.text == f"#### {gold[each.sample_id]}"
        assert each.verdict is (Verdict.CORRECT if right else Verdict.WRONG)
    assert attempt(DicePolicy(), sum_samples, sums_verifier, None, seed=2) != attempts


def three_rounds(
    policy: DicePolicy, samples: list[Sample], verifier: Verifier, file: AttemptFile | None
) -> list[Attempt]:
    """All samples twice; those not solved twice more; the first of them once more."""
    rounds = AttemptRounds(
        policy, temperature=0.7, seed=1, label="score", verifier=verifier, progress=SilentProgress(), file=file
    )
    first = rounds.make([Problem.of(sample) for sample in samples], 2)
    solved = {attempt.sample_id for attempt in first if attempt.verdict is Verdict.CORRECT}
    unsolved = [Problem.of(sample) for sample in samples if sample.id not in solved]
    attempts = [*first, *rounds.make(unsolved, 2), *rounds.make(unsolved[:1], 1)]
    rounds.finish()
    return attempts


@pytest.mark.parametrize("cut", [0, 7, 10, 23, 24, 25, 34, 40, 44, 45])
def test_rounds_go_on_where_they_were_cut(
    cut: int, sum_samples: list[Sample], sums_verifier: Verifier, file: AttemptFile
) -> None:
    undisturbed = three_rounds(DicePolicy(), sum_samples, sums_verifier, None)
    assert three_rounds(DicePolicy(), sum_samples, sums_verifier, file) == undisturbed
    path = file.directory.path / file.name
    whole = path.read_bytes()
    path.write_text("".join(whole.decode().splitlines(keepends=True)[:cut]))
    assert three_rounds(DicePolicy(), sum_samples, sums_verifier, file) == undisturbed
    assert path.read_bytes() == whole


def test_a_later_round_does_not_draw_what_the_first_one_drew(
    sum_samples: list[Sample], sums_verifier: Verifier
) -> None:
    attempts = three_rounds(DicePolicy(), sum_samples, sums_verifier, None)
    [unsolved, *_] = [one.sample_id for one in attempts[24:]]
    texts = [one.text for one in attempts if one.sample_id == unsolved]
    assert len(texts) == 5
    assert texts[:2] != texts[2:4]


def test_attempts_that_no_round_asks_for_are_refused(
    sum_samples: list[Sample], sums_verifier: Verifier, file: AttemptFile
) -> None:
    made = len(three_rounds(DicePolicy(), sum_samples, sums_verifier, file))
    with pytest.raises(RunError, match=f"its {made} attempts belong to other inputs"):
        attempt(DicePolicy(), sum_samples, sums_verifier, file)


def test_no_problems_no_attempts(sums_verifier: Verifier, file: AttemptFile) -> None:
    assert attempt(DicePolicy(), [], sums_verifier, file) == []


def test_derived_seeds_follow_from_their_parts_alone() -> None:
    assert derived_seed(0, "score", 32) == derived_seed("0", "score", "32")
    seeds = {derived_seed(seed, label, start) for seed in range(5) for label in "ab" for start in range(5)}
    assert len(seeds) == 50
    assert derived_seed("ab", "c") != derived_seed("a", "bc")
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_readable_share_leaves_verifier_errors_out() -> None:
    def of(*verdicts: Verdict) -> float | None:
        return readable_share(
            [Attempt(sample_id="s", text="", answer=None, verdict=verdict, token_count=1) for verdict in verdicts]
        )

    assert of(Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER, Verdict.TRUNCATED, Verdict.VERIFIER_ERROR) == 0.5
    assert of(Verdict.VERIFIER_ERROR) is None
    assert of() is None
