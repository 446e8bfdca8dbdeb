"""From drafts to labels: the gold check, the vote, and instructors whose labels need none."""

import asyncio
from collections.abc import Iterator

import pytest

from taskdef.instruct.label import LabelRequest, label_drafts
from taskdef.instruct.protocol import Draft
from taskdef.records import (
    AnswerComparison,
    AnswerReading,
    AnswerSpec,
    Drop,
    DropReason,
    Origin,
    Sample,
    Stage,
    TaskDefinition,
)
from taskdef.verify.isolated import Verifier

DEFINITION = TaskDefinition(
    name="sums",
    description="Add.",
    output_format="#### and the number",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)


class Voter:
    """Gives the same further answers to every input; later inputs come back earlier."""

    name = "voter"

    def __init__(self, *answers: str, by_construction: bool = False) -> None:
        self.answers = list(answers)
        self.labels_by_construction = by_construction
        self.asked = 0

    async def answer(
        self, definition: TaskDefinition, sample_input: str, *, count: int, temperature: float
    ) -> list[str]:
        self.asked += 1
        await asyncio.sleep(0.02 / self.asked)
        return self.answers[:count]


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(DEFINITION.answer) as verifier:
        yield verifier


def label(
    voter: Voter, verifier: Verifier, *solutions: str, seed: int = 0, min_vote_share: float = 0.5, votes: int = 16
) -> list[Sample | Drop]:
    candidates = [
        LabelRequest(f"s{i}", Draft(f"q{i}", solution, {"g.a": 1}), Origin.HARDER, "parent", "passage", "domain")
        for i, solution in enumerate(solutions)
    ]
    return asyncio.run(
        label_drafts(
            DEFINITION,
            candidates,
            instructor=voter,  # type: ignore[arg-type]
            verifier=verifier,
            votes=votes,
            vote_temperature=0.7,
            min_vote_share=min_vote_share,
            seed=seed,
            stage=Stage.ADAPT,
        )
    )


def test_the_most_frequent_answer_is_the_label_even_against_the_drafts_own(verifier: Verifier) -> None:
    (sample,) = label(Voter("a #### 8", "b #### 8.0", "no idea", "c #### 8"), verifier, "mine #### 7")
    assert isinstance(sample, Sample)
    assert (sample.answer, sample.votes, sample.vote_count, sample.vote_share) == ("8", 3, 4, 0.75)
    assert sample.solution in {"a #### 8", "b #### 8.0", "c #### 8"}
    assert (sample.origin, sample.parent_id, sample.passage_id, sample.domain) == (
        Origin.HARDER,
        "parent",
        "passage",
        "domain",
    )
    assert sample.level == {"g.a": 1}


def test_the_solution_is_drawn_among_the_winners_by_seed(verifier: Verifier) -> None:
    def solution(seed: int) -> str:
        (sample,) = label(Voter("a #### 7", "b #### 7"), verifier, "mine #### 7", seed=seed)
        assert isinstance(sample, Sample)
        return sample.solution

    drawn = [solution(seed) for seed in range(12)]
    assert set(drawn) == {"mine #### 7", "a #### 7", "b #### 7"}
    assert drawn == [solution(seed) for seed in range(12)]


@pytest.mark.parametrize(
    ("answers", "share", "detail"),
    [
        (["#### 8"], 0.5, "1 of 2 votes for the most frequent answer (a tie)"),
        (["#### 7", "#### 8", "#### 9"], 0.5, "2 of 4 votes for the most frequent answer '7'"),
        (["#### 7", "#### 8"], 0.7, "2 of 3 votes for the most frequent answer '7'"),
    ],
)
def test_without_a_majority_there_is_no_sample(
    verifier: Verifier, answers: list[str], share: float, detail: str
) -> None:
    (drop,) = label(Voter(*answers), verifier, "#### 7", min_vote_share=share)
    assert drop == Drop(reason=DropReason.NO_MAJORITY, stage=Stage.ADAPT, id="s0", passage_id="passage", detail=detail)


@pytest.mark.parametrize("answers", [[], ["no idea", "seven"]])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_drafts_own_answer_alone_is_no_majority(verifier: Verifier, answers: list[str], share: float) -> None:
    (drop,) = label(Voter(*answers), verifier, "#### 7", min_vote_share=share)
    assert isinstance(drop, Drop)
    assert (drop.reason, drop.detail) == (
        DropReason.NO_MAJORITY,
        "1 of 1 votes for the most frequent answer '7': the draft's own; "
        "none of the 16 further answers could be had and read",
    )


def test_without_further_votes_the_drafts_own_answer_is_the_label(verifier: Verifier) -> None:
    (sample,) = label(Voter(), verifier, "#### 7", votes=0)
    assert isinstance(sample, Sample)
    assert (sample.answer, sample.votes, sample.vote_count) == ("7", 1, 1)


def test_an_unreadable_solution_is_dropped_before_any_vote_is_paid_for(verifier: Verifier) -> None:
    voter = Voter("#### 7")
    (drop,) = label(voter, verifier, "seven")
    assert isinstance(drop, Drop)
    assert (drop.reason, voter.asked) == (DropReason.GOLD_FAILS, 0)
    assert "seven" in drop.detail


def test_labels_by_construction_are_not_put_to_the_vote(verifier: Verifier) -> None:
    voter = Voter("#### 8", by_construction=True)
    (sample,) = label(voter, verifier, "#### 7")
    assert isinstance(sample, Sample)
    assert (sample.answer, sample.votes, sample.vote_count, sample.vote_share, voter.asked) == ("7", 0, 0, None, 0)


def test_outcomes_stand_in_the_order_of_the_drafts(verifier: Verifier) -> None:
    outcomes = label(Voter(), verifier, "#### 1", "none", "#### 3", "#### 4", votes=0)
    assert [outcome.id for outcome in outcomes] == ["s0", "s1", "s2", "s3"]
    assert [getattr(outcome, "answer", None) for outcome in outcomes] == ["1", None, "3", "4"]
