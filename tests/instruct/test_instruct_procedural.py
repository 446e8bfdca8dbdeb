"""The procedural instructor: right labels, levels that move, passages that decide, messages that help."""

import asyncio
import re
from typing import Literal

import pytest

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError
from taskdef.instruct.generators import parse_generators, speak_signs
from taskdef.instruct.load import load_instructor
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.instruct.protocol import Draft, DraftFailed
from taskdef.records import (
    AnswerComparison,
    AnswerReading,
    AnswerSpec,
    DropReason,
    Origin,
    Passage,
    Sample,
    TaskDefinition,
)
from taskdef.verify.read import read_answer

SUMS = "chain_sum(level.num_terms=0)"
DEFINITION = TaskDefinition(
    name="sums",
    description="Arithmetic: work out the sum or the difference of two whole numbers.",
    output_format="End with #### and the number.",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)


def generate(instructor: ProceduralInstructor, index: int, text: str | None = None) -> Draft:
    passage = None if text is None else Passage(id="p", text=text, source="here")
    return asyncio.run(
        instructor.generate(DEFINITION, passage=passage, pattern="", demos=(), index=index, temperature=0.7)
    )


def sample(draft: Draft, name: str = "s0") -> Sample:
    return Sample(id=name, input=draft.input, solution=draft.solution, answer="", level=draft.level)


def rewrite(
    instructor: ProceduralInstructor, parent: Sample, direction: Literal[Origin.HARDER, Origin.EASIER]
) -> Draft:
    return asyncio.run(instructor.rewrite(DEFINITION, parent, direction, pattern="", temperature=0.7))


def numbers(question: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", question)]


def test_the_label_is_the_value_of_the_expression() -> None:
    instructor = ProceduralInstructor(SUMS, seed=0)
    for index in range(50):
        draft = generate(instructor, index)
        first, sign, second = re.search(r"(\d+) ([+-]) (\d+) =", draft.input).groups()  # type: ignore[union-attr]
        expected = int(first) + int(second) if sign == "+" else int(first) - int(second)
        assert read_answer(DEFINITION.answer, draft.solution) == str(expected)


def test_the_start_level_covers_its_whole_range() -> None:
    instructor = ProceduralInstructor(SUMS, seed=0)
    lengths = {len(str(n)) for index in range(50) for n in numbers(generate(instructor, index).input)}
    assert lengths == {1, 2}
    assert generate(instructor, 0).level == {"chain_sum.num_terms": 0, "chain_sum.num_digits": 1}


def test_one_seed_gives_one_data_set_and_neighbouring_seeds_share_little() -> None:
    first, again, other = (
        [generate(ProceduralInstructor("chain_sum(level=3)", seed=seed), index).input for index in range(40)]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert len(set(first) & set(other)) <= 1


def test_harder_and_easier_move_one_attribute_by_one_level() -> None:
    instructor = ProceduralInstructor(SUMS, seed=0)
    shapes = set()
    for index in range(40):
        parent = sample(generate(instructor, index), f"s{index}")
        harder = rewrite(instructor, parent, Origin.HARDER)
        assert sum(harder.level.values()) == sum(parent.level.values()) + 1
        operands = numbers(harder.input)
        shapes.add((len(operands), max(len(str(n)) for n in operands) == 3))
        easier = rewrite(instructor, parent, Origin.EASIER)
        assert easier.level == {"chain_sum.num_terms": 0, "chain_sum.num_digits": 0}
        assert all(n < 10 for n in numbers(easier.input))
        assert easier.input != parent.input
    # either three terms of up to two digits, or two terms of exactly three digits
    assert shapes == {(3, False), (2, True)}


def test_the_ends_of_the_scale_have_no_rewrite() -> None:
    instructor = ProceduralInstructor("chain_sum(level=0)", seed=0)
    with pytest.raises(DraftFailed, match="no easier level") as failure:
        rewrite(instructor, sample(generate(instructor, 0)), Origin.EASIER)
    assert failure.value.reason is DropReason.NO_REWRITE


def test_a_fixed_parameter_holds_its_attribute_in_place() -> None:
    instructor = ProceduralInstructor("chain_sum(min_digits=2,max_digits=2)", seed=0)
    for index in range(20):
        harder = rewrite(instructor, sample(generate(instructor, index), f"s{index}"), Origin.HARDER)
        assert harder.level == {"chain_sum.num_terms": 2, "chain_sum.num_digits": 1}
        assert all(10 <= n <= 99 for n in numbers(harder.input))


def test_the_last_entry_of_an_interval_attribute_is_no_level_of_its_own() -> None:
    (gcd,) = parse_generators("gcd(level.value=9)")
    # levels 100, 1000, 10000, 100000: intervals 100-1000, 1000-10000, 10000-100000
    assert gcd.highest["value"] == 2
    assert gcd.start == {"num_terms": 1, "value": 2}


@pytest.mark.parametrize(
    ("text", "generator"),
    [
        ("To subtract, count back from the larger amount; the difference remains.", "chain_sum"),
        ("The greatest common divisor of two numbers divides both.", "gcd"),
        ("A leap day is added to the calendar every four years.", "calendar_arithmetic"),
    ],
)
def test_the_passage_decides_which_generator_writes(text: str, generator: str) -> None:
    instructor = ProceduralInstructor("chain_sum+gcd+calendar_arithmetic(tasks=[count_days])", seed=0)
    for index in range(3):
        assert all(key.startswith(f"{generator}.") for key in generate(instructor, index, text).level)


def test_without_a_passage_or_a_shared_word_the_generators_take_turns() -> None:
    instructor = ProceduralInstructor("chain_sum+gcd", seed=0)
    for text in (None, "Roses like sun in the morning."):
        writers = [next(iter(generate(instructor, index, text).level)).split(".")[0] for index in range(4)]
        assert writers == ["chain_sum", "gcd", "chain_sum", "gcd"]


def test_an_answer_that_does_not_suit_the_task_fails_its_draft() -> None:
    with pytest.raises(DraftFailed, match=r"'(No|Yes)'") as failure:
        generate(ProceduralInstructor("calendar_arithmetic(tasks=[is_leap_year])", seed=0), 0)
    assert failure.value.reason is DropReason.GOLD_FAILS


def test_words_given_by_the_user_describe_a_generator_too() -> None:
    instructor = ProceduralInstructor("chain_sum+gcd(about=measuring ropes and tiles)", seed=0)
    assert "gcd.value" in generate(instructor, 0, "Two ropes are cut into equal pieces.").level


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8 - 5 is 3", {"minus"}),
        ("only + and - operators", {"plus", "minus"}),
        ("2 * 3 / 6", {"times", "divide"}),
        ("a dash - like this", set()),
        ("C++ and x+y and well-known", set()),
    ],
)
def test_signs_that_stand_alone_are_words_too(text: str, words: set[str]) -> None:
    spoken = set(speak_signs(text).split())
    assert {word for word in ("plus", "minus", "times", "divide") if word in spoken} == words


def test_keywords_are_the_tasks_words_and_the_fitting_generators_name() -> None:
    words = asyncio.run(ProceduralInstructor("gcd+chain_sum", seed=0).keywords(DEFINITION))
    assert {"arithmetic", "sum", "difference", "chain"} <= set(words)
    assert not {"gcd", "the", "of"} & set(words)


def test_answers_are_copies_of_the_label() -> None:
    instructor = ProceduralInstructor(SUMS, seed=0)
    draft = generate(instructor, 0)
    assert asyncio.run(instructor.answer(DEFINITION, draft.input, count=3, temperature=1)) == [draft.solution] * 3
    assert asyncio.run(instructor.answer(DEFINITION, "2 + 2 =", count=3, temperature=1)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "none was given"),
        ("magic:box", "openai:MODEL[@BASE_URL], procedural:GENERATOR or scripted:FILE"),
        ("procedural:chain_sm", "no generator 'chain_sm'; did you mean chain_sum?"),
        ("procedural:gcd+", "'' is no generator"),
        ("procedural:gcd+gcd", "gcd is named twice"),
        ("procedural:chain_sum(max_digit=2)", "no parameter 'max_digit'; did you mean max_digits?"),
        ("procedural:chain_sum(max_digits)", "'max_digits' is not key=value"),
        ("procedural:chain_sum(max_digits=0)", "refuses these settings: max_digits must be >= min_digits"),
        ("procedural:chain_sum(level.size=1)", "no difficulty attribute 'size'\n  next: it has num_terms, num_digits"),
        ("procedural:chain_sum(level=high)", "a level is a whole number from 0"),
        ("procedural:rush_hour", "accepts several answers and names none"),
    ],
)
def test_a_wrong_instructor_is_named_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(InstructorError) as fault:
        load_instructor(text, ledger_path=None, config=InstructorConfig(), seed=0)
    assert message in str(fault.value)
