"""Difficulty adaptation: what is rewritten which way, and what becomes of rewrites that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import pytest

from taskdef.adapt.stage import Adaptation, adapt_difficulty, attempt_greedily, drop_too_long
from taskdef.config import RunConfig, build_config
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.instruct.protocol import Draft, DraftFailed, Spending
from taskdef.records import (
    Attempt,
    Completion,
    DropReason,
    Origin,
    Sample,
    Stage,
    TaskDefinition,
    Verdict,
)
from taskdef.verify.isolated import Verifier

GENERATOR = "chain_sum(level.num_terms=0)"


def sample(identity: str, text: str, **fields: object) -> Sample:
    return Sample.model_validate({"id": identity, "input": text, "solution": "#### 7", "answer": "7"} | fields)


def greedy(sample_id: str, verdict: Verdict) -> Attempt:
    return Attempt(sample_id=sample_id, text="…", answer=None, verdict=verdict, token_count=3)


class WrittenInstructor:
    """Rewrites and votes from tables, as a language model might."""

    name = "written"
    labels_by_construction = False

    def __init__(
        self, rewrites: dict[tuple[str, Origin], Draft | DraftFailed], votes: dict[str, list[str]] | None = None
    ) -> None:
        self.rewrites = rewrites
        self.votes = votes or {}
        self.asked: list[tuple[str, Origin, str, float]] = []

    async def rewrite(
        self,
        definition: TaskDefinition,
        sample: Sample,
        direction: Literal[Origin.HARDER, Origin.EASIER],
        *,
        pattern: str,
        temperature: float,
    ) -> Draft:
        self.asked.append((sample.id, direction, pattern, temperature))
        found = self.rewrites[sample.id, direction]
        if isinstance(found, DraftFailed):
            raise found
        return found

    async def answer(
        self, definition: TaskDefinition, sample_input: str, *, count: int, temperature: float
    ) -> list[str]:
        return self.votes.get(sample_input, [])[:count]

    def spending(self) -> Spending:
        return Spending()

    async def close(self) -> None: ...


def adapt(
    definition: TaskDefinition,
    samples: Sequence[Sample],
    verdicts: Sequence[Verdict],
    instructor: object,
    verifier: Verifier,
    config: RunConfig | None = None,
    test_inputs: Sequence[str] = (),
) -> Adaptation:
    return asyncio.run(
        adapt_difficulty(
            definition,
            samples,
            [greedy(each.id, verdict) for each, verdict in zip(samples, verdicts, strict=True)],
            config or build_config(overrides={"synthesize.votes": 2, "adapt.temperature": 0.9}),
            instructor=instructor,  # type: ignore[arg-type]
            verifier=verifier,
            test_inputs=test_inputs,
            pattern="the general form",
        )
    )


def test_solved_goes_up_unsolved_goes_down_a_verifier_error_goes_nowhere(
    sums: TaskDefinition, sums_verifier: Verifier
) -> None:
    samples = [sample(name, f"question {name}") for name in "abcde"]
    verdicts = [Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER, Verdict.TRUNCATED, Verdict.VERIFIER_ERROR]
    instructor = WrittenInstructor(
        {
            ("a", Origin.HARDER): Draft("What is 90 + 17?", "#### 107"),
            ("b", Origin.EASIER): Draft("How much is one and one?", "#### 2"),
            ("c", Origin.EASIER): Draft("Take 2 from 5!", "#### 3"),
            ("d", Origin.EASIER): Draft("Count to four.", "#### 4"),
        },
        {
            "What is 90 + 17?": ["#### 107", "#### 97"],
            "How much is one and one?": ["#### 2", "#### 2"],
            "Take 2 from 5!": ["#### 3", "#### 3"],
            "Count to four.": ["#### 4", "nothing"],
        },
    )
    adaptation = adapt(sums, samples, verdicts, instructor, sums_verifier)
    assert instructor.asked == [
        ("a", Origin.HARDER, "the general form", 0.9),
        *((name, Origin.EASIER, "the general form", 0.9) for name in "bcd"),
    ]
    assert adaptation.samples[:5] == tuple(samples)
    assert [(s.id, s.origin, s.parent_id, s.answer, s.votes, s.vote_count) for s in adaptation.samples[5:]] == [
        ("a-harder", Origin.HARDER, "a", "107", 2, 3),
        ("b-easier", Origin.EASIER, "b", "2", 3, 3),
        ("c-easier", Origin.EASIER, "c", "3", 3, 3),
        ("d-easier", Origin.EASIER, "d", "4", 2, 2),
    ]
    assert adaptation.drops == ()
    assert adaptation.summary(adaptation.samples, adaptation.drops) == {
        "solved": 1,
        "unsolved": 3,
        "verifier_errors": 1,
        "kept": 9,
        "origins": {"initial": 5, "harder": 1, "easier": 3},
        "dropped": {},
    }


def test_every_rewrite_that_is_lost_is_counted_under_its_reason(sums: TaskDefinition, sums_verifier: Verifier) -> None:
    names = ["sent", "parsed", "gold", "tied", "twin", "copy", "test"]
    samples = [sample(name, f"What does {name} come to?") for name in names]
    held_out = "Nine ships of four masts each and one more mast lie there; how many masts is that?"
    rewrites: dict[str, Draft | DraftFailed] = {
        "sent": DraftFailed(DropReason.INSTRUCTOR_FAILED, "503"),
        "parsed": DraftFailed(DropReason.UNPARSEABLE, "I cannot"),
        "gold": Draft("Halve a dozen.", "six"),
        "tied": Draft("Add five and eight.", "#### 13"),
        "twin": Draft("WHAT does  sent come to?", "#### 1"),  # an initial sample but for case and spaces
        "copy": Draft("Add five and eight.", "#### 13"),
        "test": Draft(held_out, "#### 37"),
    }
    instructor = WrittenInstructor(
        {(name, Origin.EASIER): draft for name, draft in rewrites.items()}, {"Add five and eight.": ["#### 14"]}
    )
    adaptation = adapt(sums, samples, [Verdict.WRONG] * len(names), instructor, sums_verifier, test_inputs=[held_out])
    assert adaptation.samples == tuple(samples)
    assert all(drop.stage is Stage.ADAPT for drop in adaptation.drops)
    assert {drop.id: drop.reason for drop in adaptation.drops} == {
        "sent-easier": DropReason.INSTRUCTOR_FAILED,
        "parsed-easier": DropReason.UNPARSEABLE,
        "gold-easier": DropReason.GOLD_FAILS,
        "tied-easier": DropReason.NO_MAJORITY,  # 13 against 14
        "twin-easier": DropReason.DUPLICATE,
        "copy-easier": DropReason.DUPLICATE,
        "test-easier": DropReason.OVERLAPS_TEST,
    }
    assert adaptation.summary(samples, adaptation.drops)["dropped"] == {
        "instructor_failed": 1,
        "unparseable": 1,
        "duplicate": 2,
        "overlaps_test": 1,
        "gold_fails": 1,
        "no_majority": 1,
    }
    details = {drop.id: drop.detail for drop in adaptation.drops}
    assert details["sent-easier"] == "503"
    assert "sent" in details["twin-easier"]  # which sample it collides with


def test_the_generators_own_levels_move_by_one(sums: TaskDefinition, sums_verifier: Verifier) -> None:
    instructor = ProceduralInstructor(GENERATOR, seed=3)
    samples = []
    for index in range(8):
        draft = asyncio.run(instructor.generate(sums, passage=None, pattern="", demos=(), index=index, temperature=0.7))
        # half of them in the middle of the digits' scale
        level = draft.level | {"chain_sum.num_digits": index % 2}
        samples.append(sample(f"s{index}", draft.input, solution=draft.solution, level=level))
    adaptation = adapt(
        sums,
        samples,
        [Verdict.CORRECT] * 4 + [Verdict.WRONG] * 4,
        ProceduralInstructor(GENERATOR, seed=3),
        sums_verifier,
    )
    parents = {each.id: each for each in samples}
    made = adaptation.samples[8:]
    assert len(made) + len(adaptation.drops) == 8
    for rewrite in made:
        parent = parents[str(rewrite.parent_id)]
        moved = {key: rewrite.level[key] - parent.level[key] for key in parent.level}
        assert sorted(moved.values()) == ([0, 1] if rewrite.origin is Origin.HARDER else [-1, 0])
        assert rewrite.vote_share is None  # nobody voted
    assert {each.origin for each in made} == {Origin.HARDER, Origin.EASIER}
    # unsolved at the lowest level of everything: nothing easier is left
    assert {drop.id for drop in adaptation.drops if drop.reason is DropReason.NO_REWRITE} == {"s4-easier", "s6-easier"}


def test_the_upper_end_of_the_scale(sums: TaskDefinition, sums_verifier: Verifier) -> None:
    instructor = ProceduralInstructor(GENERATOR, seed=0)
    draft = asyncio.run(instructor.generate(sums, passage=None, pattern="", demos=(), index=0, temperature=0.7))
    top = sample("top", draft.input, level=dict.fromkeys(draft.level, 99))
    adaptation = adapt(sums, [top], [Verdict.CORRECT], instructor, sums_verifier)
    assert [(drop.id, drop.reason, drop.detail) for drop in adaptation.drops] == [
        ("top-harder", DropReason.NO_REWRITE, "chain_sum has no harder level")
    ]


def test_switched_off_nothing_is_rewritten(sums: TaskDefinition, sums_verifier: Verifier) -> None:
    samples = [sample("a", "1 + 6?")]
    instructor = WrittenInstructor({})
    config = build_config(overrides={"adapt.enabled": False})
    adaptation = adapt(sums, samples, [Verdict.WRONG], instructor, sums_verifier, config)
    assert (adaptation.samples, adaptation.drops, instructor.asked) == (tuple(samples), (), [])
    assert len(adaptation.attempts) == 1


class FixedPolicy:
    name = "fixed"

    def __init__(self) -> None:
        self.temperatures: list[float] = []

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        self.temperatures.append(temperature)
        return [[Completion(text="#### 7", token_count=3, truncated=False)] * count for _ in inputs]

    def prompt_length(self, sample_input: str) -> int:
        return len(sample_input)

    def prompt_limit(self) -> int:
        return 10


def test_one_greedy_attempt_a_sample(sums_verifier: Verifier) -> None:
    policy = FixedPolicy()
    samples = [sample("a", "3 + 4?"), sample("b", "3 + 5?", answer="8", solution="#### 8")]
    attempts = attempt_greedily(policy, samples, verifier=sums_verifier, label="attempt samples")
    assert [(each.sample_id, each.verdict) for each in attempts] == [("a", Verdict.CORRECT), ("b", Verdict.WRONG)]
    assert policy.temperatures == [0.0]


@pytest.mark.parametrize(("length", "kept"), [(10, True), (11, False)])
def test_prompts_that_leave_no_room_are_dropped(length: int, kept: bool) -> None:
    long = sample("long", "x" * length)
    samples, drops = drop_too_long([sample("a", "short"), long], FixedPolicy(), Stage.ADAPT)
    assert (long in samples) is kept
    assert [(drop.reason, drop.stage, drop.id) for drop in drops] == (
        [] if kept else [(DropReason.TOO_LONG, Stage.ADAPT, "long")]
    )
    if drops:
        assert drops[0].detail == "a prompt of 11 tokens, the limit is 10: xxxxxxxxxxx"
