"""Grades: what is read out of a response, how a sample is drawn, what is said of a library."""

import asyncio
from dataclasses import replace

import pytest

from taskdef.instruct.grade import read_grade
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.progress import SilentProgress
from taskdef.records import Grade, Passage, Relevance, TaskDefinition
from taskdef.retrieve.audit import BY_HAND, Audit, audit_lines, choose_passages, grade_passages, sum_up

PASSAGES = [Passage(id=f"p{number}", text=f"text {number}", source="here") for number in range(100)]


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ('{"relevance": "relevant"}', Relevance.RELEVANT),
        ('```json\n{"relevance": "Partly"}\n```', Relevance.PARTLY),
        ("<think>relevant?</think> Irrelevant.", Relevance.IRRELEVANT),
        ('First {"relevance": "relevant"}, no: {"relevance": "irrelevant"}', Relevance.IRRELEVANT),
        ("**partly**", Relevance.PARTLY),
        ("This text is not relevant", None),
        ("relevant to the field, but irrelevant to the task", None),
        ('{"relevance": "very relevant"}', None),
        ('{"relevance": 1}', None),
        ('{"grade": "relevant"}', None),
        ("", None),
    ],
)
def test_a_grade_is_one_of_three_words_and_nothing_else(text: str, grade: Relevance | None) -> None:
    assert read_grade(text) is grade


def test_a_larger_sample_holds_the_smaller_one() -> None:
    few, many = choose_passages(PASSAGES, 10, 0, 99), choose_passages(PASSAGES, 30, 0, 99)
    assert many[:10] == few
    assert len({passage.id for passage in many}) == 30
    assert choose_passages(PASSAGES, 10, 1, 99) != few
    assert len(choose_passages(PASSAGES, 500, 0, 99)) == 100


def test_a_grader_sees_as_much_as_the_writer_will() -> None:
    assert choose_passages(PASSAGES[:1], 1, 0, 4)[0].text == "text"


def grades(*relevances: Relevance | None, grader: str = "m") -> list[Grade]:
    return [Grade(passage_id=f"p{n}", grader=grader, relevance=one) for n, one in enumerate(relevances)]


def test_missing_grades_are_in_no_share_and_each_grader_counts_alone() -> None:
    given = grades(Relevance.RELEVANT, Relevance.PARTLY, Relevance.IRRELEVANT, Relevance.IRRELEVANT, None)
    audit = sum_up([*given, *grades(Relevance.RELEVANT, grader=BY_HAND)], "m", among=80)
    assert (audit.graded, audit.usable, audit.ungraded, audit.share) == (4, 2, 1, 0.5)
    assert sum_up(given, BY_HAND, 80).share is None


def test_a_passage_graded_again_counts_once() -> None:
    again = sum_up([*grades(None, None), *grades(Relevance.PARTLY)], "m", among=2)
    assert (again.graded, again.ungraded) == (1, 1)


def audited(usable: int, graded: int, low: float, high: float, grader: str = "m") -> Audit:
    counts = {Relevance.RELEVANT: usable, Relevance.PARTLY: 0, Relevance.IRRELEVANT: graded - usable}
    return replace(Audit(grader, 100, counts, 0), low=low, high=high)


def test_a_good_library_is_praised_with_its_interval() -> None:
    assert audit_lines(audited(9, 10, 0.6, 0.98), "runs/x") == [
        "10 of 100 passages graded by m: 9 relevant, 0 partly, 1 irrelevant",
        "usable (relevant or partly): 90%, 95% interval 60% to 98%",
    ]


def test_a_poor_library_warns_and_says_what_to_do() -> None:
    lines = audit_lines(audited(1, 10, 0.02, 0.4), "runs/x")
    assert lines[2:] == [
        "warning: most drafts would be written from passages that do not serve the task. Before spending more:",
        "  see what was searched for, and what was found: runs/x/1-retrieve/",
        "  a new run with a library about the task's subject: --passages PATH",
        "  or without passages, and compare: --set retrieve.method=none",
    ]


@pytest.mark.parametrize(
    ("grader", "command"),
    [
        ("m", "taskdef retrieve runs/x --audit --grades 40"),
        (BY_HAND, "taskdef retrieve runs/x --audit --by-hand --grades 40"),
    ],
)
def test_too_few_grades_ask_for_more(grader: str, command: str) -> None:
    lines = audit_lines(audited(5, 10, 0.24, 0.76, grader), "runs/x")
    assert lines[2:] == [f"it is not sure that half of them are usable; to know better: {command}"]


def test_where_all_are_graded_no_more_are_asked_for() -> None:
    lines = audit_lines(replace(audited(5, 10, 0.24, 0.76), among=10), "runs/x")
    assert lines[2:] == ["it is not sure that half of them are usable; all of them are graded"]
    lines = audit_lines(replace(audited(5, 10, 0.24, 0.76), among=25), "runs/x")
    assert lines[2].endswith("taskdef retrieve runs/x --audit --grades 25")


def test_without_a_grade_nothing_is_claimed() -> None:
    assert audit_lines(sum_up(grades(None, None), "m", 100), "runs/x") == [
        "0 of 100 passages graded by m: 0 relevant, 0 partly, 0 irrelevant; 2 more without a grade that could be read",
        "no grade, so nothing can be said about the library",
    ]


def test_a_program_grades_by_the_generator_that_a_passage_leads_to(sums: TaskDefinition) -> None:
    texts = ["A sum: 3 plus 4 is 7.", "The letter e in a word.", "Roses need sun."]
    passages = [Passage(id=text, text=text, source="here") for text in texts]
    instructor = ProceduralInstructor("chain_sum+letter_counting", seed=0)
    given = asyncio.run(grade_passages(sums, passages, instructor=instructor, progress=SilentProgress()))
    assert given == [Relevance.RELEVANT, Relevance.IRRELEVANT, Relevance.IRRELEVANT]
