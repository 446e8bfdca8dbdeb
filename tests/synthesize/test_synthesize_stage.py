"""The synthesize stage: rounds, drops, provenance, and a result that no scheduling order changes."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from taskdef.config import SynthesizeConfig
from taskdef.errors import InstructorError
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.instruct.protocol import Draft, DraftFailed
from taskdef.records import (
    AnswerComparison,
    AnswerReading,
    AnswerSpec,
    Demo,
    DropReason,
    Passage,
    TaskDefinition,
)
from taskdef.synthesize.generate import plan_draft
from taskdef.synthesize.stage import Synthesis, synthesize_samples
from taskdef.verify.isolated import Verifier

DEFINITION = TaskDefinition(
    name="sums",
    description="Add.",
    output_format="#### and the number",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
    demos=tuple(Demo(input=f"demo {i}", output=f"#### {i}") for i in range(4)),
    domains=("algebra", "counting"),
)
PASSAGES = [Passage(id=f"p{i}", text=f"text {i}", source="here") for i in range(3)]


class Writer:
    """Writes what a list says (an exception is raised), after a wait of random length."""

    name = "writer"
    labels_by_construction = False

    def __init__(self, *drafts: str | DraftFailed, votes: str = "#### 1") -> None:
        self.drafts = drafts
        self.votes = votes
        self.written: list[tuple[int, str | None, str, int]] = []
        self.voted: list[str] = []

    async def pattern(self, definition: TaskDefinition) -> str:
        return "PATTERN"

    async def generate(
        self,
        definition: TaskDefinition,
        *,
        passage: Passage | None,
        pattern: str,
        demos: tuple[Demo, ...],
        index: int,
        temperature: float,
    ) -> Draft:
        self.written.append((index, passage.text if passage else None, pattern, len(demos)))
        await asyncio.sleep(random.random() / 100)
        draft = self.drafts[index] if index < len(self.drafts) else f"question {index}"
        if isinstance(draft, DraftFailed):
            raise draft
        return Draft(draft, "#### 1")

    async def answer(
        self, definition: TaskDefinition, sample_input: str, *, count: int, temperature: float
    ) -> list[str]:
        self.voted.append(sample_input)
        await asyncio.sleep(random.random() / 100)
        return [self.votes] * count


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(DEFINITION.answer) as verifier:
        yield verifier


def synthesize(writer: Writer, verifier: Verifier, samples: int = 4, **settings: object) -> Synthesis:
    test_inputs = settings.pop("test_inputs", [])
    config = SynthesizeConfig.model_validate({"samples": samples, "votes": 2, **settings})
    return asyncio.run(
        synthesize_samples(
            DEFINITION,
            PASSAGES,
            config,
            instructor=writer,  # type: ignore[arg-type]
            verifier=verifier,
            test_inputs=test_inputs,  # type: ignore[arg-type]
            seed=0,
        )
    )


def test_every_drop_is_counted_and_replaced_in_a_further_round(verifier: Verifier) -> None:
    writer = Writer(
        "one",
        "One?",
        DraftFailed(DropReason.UNPARSEABLE, "chatter"),
        "demo 2",
        "from the test",
        "six",
        "seven",
        "eight",
        "nine",
    )
    made = synthesize(writer, verifier, samples=5, test_inputs=["From the test."])
    assert [(drop.id, drop.reason, drop.detail) for drop in made.drops][1:] == [
        ("s00002", DropReason.UNPARSEABLE, "chatter"),
        ("s00003", DropReason.OVERLAPS_DEMO, "equal to a demo's input"),
        ("s00004", DropReason.OVERLAPS_TEST, "equal to test row 0"),
    ]
    assert made.drops[0].id == "s00001"
    assert [sample.input for sample in made.samples] == ["one", "six", "seven", "eight", "nine"]
    assert [sample.id for sample in made.samples] == ["s00000", "s00005", "s00006", "s00007", "s00008"]
    assert made.drafts == 9
    assert Counter(drop.reason.value for drop in made.drops)["unparseable"] == 1
    # nothing that the screen keeps out is put to the vote
    assert sorted(writer.voted) == sorted(sample.input for sample in made.samples)


def test_samples_carry_passage_domain_and_votes(verifier: Verifier) -> None:
    made = synthesize(Writer(), verifier)
    assert [(s.passage_id, s.domain) for s in made.samples] == [
        ("p0", "algebra"),
        ("p1", "counting"),
        ("p2", "algebra"),
        ("p0", "counting"),
    ]
    assert {(s.answer, s.votes, s.vote_count) for s in made.samples} == {("1", 3, 3)}


def test_the_order_in_which_calls_return_changes_nothing(verifier: Verifier) -> None:
    drafts = ["a", "b", "a", "c", "b", "d", "a", "e", "f"]
    assert synthesize(Writer(*drafts), verifier, samples=6) == synthesize(Writer(*drafts), verifier, samples=6)


def test_drafts_end_at_the_limit(verifier: Verifier) -> None:
    made = synthesize(Writer(*["same"] * 20), verifier, samples=4, max_draft_factor=2.0)
    assert (len(made.samples), made.drafts) == (1, 8)
    assert Counter(drop.reason.value for drop in made.drops) == {"duplicate": 7}


def test_not_one_sample_stops_the_run_with_the_first_reason(verifier: Verifier) -> None:
    failed = [DraftFailed(DropReason.UNPARSEABLE, "only chatter")] * 8
    with pytest.raises(InstructorError) as stop:
        synthesize(Writer(*failed), verifier)
    assert "none of 8 drafts became a sample (8 unparseable); the first: unparseable: only chatter" in str(stop.value)


def test_passages_go_round_and_are_cut(verifier: Verifier) -> None:
    writer = Writer()
    synthesize(writer, verifier, passage_characters=4)
    assert [(index, text, pattern) for index, text, pattern, _ in sorted(writer.written)] == [
        (i, "text", "PATTERN") for i in range(4)
    ]
    assert plan_draft(DEFINITION, PASSAGES, SynthesizeConfig(), index=4, seed=0).passage == PASSAGES[1]
    assert plan_draft(DEFINITION, [], SynthesizeConfig(), index=4, seed=0).passage is None


def test_demos_join_in_the_share_of_demos_to_samples() -> None:
    def shown(samples: int, seed: int) -> list[tuple[Demo, ...]]:
        config = SynthesizeConfig(samples=samples)
        return [plan_draft(DEFINITION, [], config, index=i, seed=seed).demos for i in range(1000)]

    assert all(len(set(demos)) == 3 for demos in shown(samples=4, seed=0))  # 4 demos for 4 samples: always
    # 4 demos for 40 samples: one prompt in ten; 1,000 draws lie within 70 to 130 but for odds below 1 in 500
    assert 70 <= sum(bool(demos) for demos in shown(samples=40, seed=0)) <= 130
    assert shown(40, seed=0) == shown(40, seed=0) != shown(40, seed=1)


def test_the_procedural_instructor_fills_the_stage_without_votes(verifier: Verifier) -> None:
    instructor = ProceduralInstructor("chain_sum(level.num_terms=0)", seed=3)
    config = SynthesizeConfig(samples=40)
    made = asyncio.run(
        synthesize_samples(DEFINITION, [], config, instructor=instructor, verifier=verifier, test_inputs=[], seed=3)
    )
    assert len(made.samples) == 40
    assert {sample.vote_share for sample in made.samples} == {None}
    assert set(Counter(drop.reason.value for drop in made.drops)) <= {"duplicate"}
