"""Rollouts: each prefix once, equal ones shared, and going on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskdef.config import RunConfig
from taskdef.errors import RunError
from taskdef.policy.attempts import AttemptFile, Problem
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import SilentProgress
from taskdef.records import Stage, TaskDefinition, Verdict
from taskdef.store import RunDirectory
from taskdef.train import rollouts as rollouts_module
from taskdef.train.rollouts import Prefix, RolloutRounds
from taskdef.verify.isolated import Verifier

FIRST, SECOND = Problem(id="p1", input="one", gold="a"), Problem(id="p2", input="two", gold="b")
MakePolicy = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path, letters: TaskDefinition) -> AttemptFile:
    directory = RunDirectory.create(tmp_path / "run", letters, RunConfig()).stage(Stage.TRAIN)
    directory.open()
    return AttemptFile(directory, "rollouts.jsonl")


def rounds(policy: Any, verifier: Verifier, file: AttemptFile | None = None, **changes: Any) -> RolloutRounds:
    settings = {"count": 6, "temperature": 0.7, "seed": 1, "label": "rollouts", "progress": SilentProgress()} | changes
    return RolloutRounds(policy, verifier=verifier, file=file, **settings)


def test_equal_prefixes_are_rolled_out_once_and_judged_with_their_prefix(
    tabular: MakePolicy, letters_verifier: Verifier
) -> None:
    policy = tabular({(1,): (1.0, 0.0)}, depth=2)  # a is followed by a
    work = rounds(policy, letters_verifier)
    prefixes = [Prefix(FIRST, (1,)), Prefix(FIRST, (1,)), Prefix(SECOND, (1,)), Prefix(FIRST, (2, 2))]
    first, again, other, over = work.make(prefixes)
    assert policy.asked == [[(1,), (1,), (2, 2)]]
    assert first == again
    assert [rollout.ids for rollout in first.rollouts] == [(1, 0)] * 6
    assert (first.correct, other.correct, over.correct) == (6, 0, 0)
    # "b,b," and nothing more: the verdict is on the whole response
    assert {(rollout.ids, rollout.verdict) for rollout in over.rollouts} == {((0,), Verdict.WRONG)}
    assert work.make([Prefix(FIRST, (1,))]) == [first]
    assert len(policy.asked) == 1
    counts = work.finish()
    assert (counts.asked, counts.prefixes, counts.rollouts, counts.tokens) == (5, 3, 18, 30)


def test_truncated_rollouts_are_counted(tabular: MakePolicy, letters_verifier: Verifier) -> None:
    # from the start a dash or a letter, then nothing but dashes: nothing can be read in "-,-,", and its end is missing
    policy = tabular({(): (0.0, 0.0, 0.5, 0.5)}, default=(0.0, 0.0, 0.0, 1.0), depth=3, limit=2)
    work = rounds(policy, letters_verifier)
    (made,) = work.make([Prefix(FIRST)])
    dashes = sum(rollout.ids == (4, 4) for rollout in made.rollouts)
    assert 0 < dashes < 6
    counts = work.finish()
    assert (counts.truncated, counts.truncation_rate, made.judged, made.correct) == (dashes, dashes / 6, 6, 0)
    assert rounds(tabular({}), letters_verifier).finish().truncation_rate is None


def test_going_on_after_a_kill_gives_what_an_undisturbed_process_gives(
    tabular: MakePolicy, letters_verifier: Verifier, file: AttemptFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts_module, "CHUNK_COMPLETIONS", 12)  # two prefixes of six rollouts
    starts = [Prefix(FIRST), Prefix(SECOND), Prefix(FIRST, (1,))]
    later = [Prefix(FIRST, (1, 2)), Prefix(SECOND), Prefix(SECOND, (2,)), Prefix(FIRST, (2,))]
    undisturbed = rounds(tabular({}), letters_verifier)
    expected = [undisturbed.make(starts), undisturbed.make(later)]

    dying = tabular({})
    dying.die_after = 3  # chunks: two of the first round, one of the second
    killed = rounds(dying, letters_verifier, file)
    killed.make(starts)
    with pytest.raises(KeyboardInterrupt):
        killed.make(later)
    path = file.directory.path / file.name
    path.write_text(path.read_text() + '{"problem_id": "p1", "pre')  # a line torn by the kill

    policy = tabular({})
    again = rounds(policy, letters_verifier, file)
    assert [again.make(starts), again.make(later)] == expected
    assert policy.asked == [[(2,)]]
    assert again.finish() == undisturbed.finish()


def test_a_chunk_that_is_not_whole_is_made_again(
    tabular: MakePolicy, letters_verifier: Verifier, file: AttemptFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts_module, "CHUNK_COMPLETIONS", 12)
    starts = [Prefix(FIRST), Prefix(SECOND), Prefix(FIRST, (1,))]
    expected = rounds(tabular({}), letters_verifier, file).make(starts)
    path = file.directory.path / file.name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
    policy = tabular({})
    assert rounds(policy, letters_verifier, file).make(starts) == expected
    assert policy.asked == [[(), ()], [(1,)]]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("change", ["problem", "count", "left over"])
def test_rollouts_of_something_else_are_refused(
    tabular: MakePolicy, letters_verifier: Verifier, file: AttemptFile, change: str
) -> None:
    rounds(tabular({}), letters_verifier, file).make([Prefix(FIRST), Prefix(SECOND)])
    work = rounds(tabular({}), letters_verifier, file, count=5 if change == "count" else 6)
    # which of the two calls finds it depends on the change
    with pytest.raises(RunError) as refusal:  # noqa: PT012
        work.make([Prefix(SECOND if change == "problem" else FIRST)])
        work.finish()
    assert str(refusal.value) == (
        f"{file.directory.path}/rollouts.jsonl: its rollouts of 2 prefixes belong to other responses or settings\n"
        "  next: start the stage again with --fresh train"
    )


def test_a_model_goes_on_from_tokens_within_what_is_left_of_its_limit(
    tiny_llama: Path, load_tiny: Callable[..., TransformersPolicy]
) -> None:
    policy = load_tiny(tiny_llama, max_new_tokens=8)
    policy.stop_ids = frozenset()
    (whole,) = policy.continue_prefixes([("1 + 2?", [])], count=1, temperature=0.0, seed=0)[0]
    assert len(whole) == 8
    prefixes = [("1 + 2?", whole[:6]), ("1 + 2?", []), ("1 + 2?", whole[:3])]
    groups = policy.continue_prefixes(prefixes, count=2, temperature=1e-4, seed=0)
    assert groups == [[whole[6:]] * 2, [whole] * 2, [whole[3:]] * 2]
    with pytest.raises(ValueError, match="a prefix has reached the response limit of 8 tokens"):
        policy.continue_prefixes([("1 + 2?", whole)], count=1, temperature=0.7, seed=0)
