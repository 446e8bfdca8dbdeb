"""The forced form: what the pattern lets through is read strictly, and forms it cannot hold are refused."""

import re

import pytest

from taskdef.errors import ConfigError
from taskdef.instruct.form import DRAFT_SCHEMA, forced_schema
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec
from taskdef.verify.read import read_answer

NUMBER = AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC)
CHOICE = AnswerSpec(read=AnswerReading.TAG, compare=AnswerComparison.CHOICE, choices=("Yes", "No (a.)"))
LABELS = AnswerSpec(read=AnswerReading.TAG, compare=AnswerComparison.LABEL_SET, choices=("A", "B", "C"))
FREE = AnswerSpec(read=AnswerReading.TAG, tag="city", compare=AnswerComparison.TEXT)


def pattern(spec: AnswerSpec, max_tokens: int = 40) -> str:
    found: str = forced_schema(DRAFT_SCHEMA, spec, max_tokens)["properties"]["output"]["pattern"]
    return found


@pytest.mark.parametrize(
    ("spec", "output", "answer"),
    [
        (NUMBER, "3 + 4 = 7\n#### 7", "7"),
        (NUMBER, "#### -0.5", "-0.5"),
        (CHOICE, "<think>so</think><answer>No (a.)</answer>", "No (a.)"),
        (LABELS, "<answer>A, C</answer>", "A, C"),
        (FREE, "It is <city>Rome</city>", "Rome"),
    ],
)
def test_what_the_pattern_lets_through_is_read(spec: AnswerSpec, output: str, answer: str) -> None:
    assert re.search(pattern(spec), output)
    assert read_answer(spec, output) == answer


@pytest.mark.parametrize(
    ("spec", "output"),
    [
        (NUMBER, "The answer is 7"),
        (NUMBER, "#### 7 apples"),
        (NUMBER, 'He said "7". #### 7'),  # would end the JSON string where the server matches its spelling
        (NUMBER, "x" * 21 + "#### 7"),  # half of 40 tokens as characters
        (CHOICE, "<answer>No (ab)</answer>"),
        (CHOICE, "<answer>Maybe</answer>"),
        (LABELS, "<answer>A, B, C, A</answer>"),
    ],
)
def test_what_it_keeps_out(spec: AnswerSpec, output: str) -> None:
    assert not re.search(pattern(spec), output)


def test_the_plain_schema_stays_as_it_is() -> None:
    forced_schema(DRAFT_SCHEMA, NUMBER, 100)
    assert DRAFT_SCHEMA["properties"]["output"] == {"type": "string"}


def test_forms_that_no_pattern_holds_are_refused() -> None:
    boxed = AnswerSpec(read=AnswerReading.BOXED, compare=AnswerComparison.MATH)
    with pytest.raises(ConfigError) as refusal:
        forced_schema(DRAFT_SCHEMA, boxed, 100)
    assert refusal.value.message == "instruct.force_form: an answer with `read: boxed` cannot be forced"
    assert refusal.value.next_step == ("--set instruct.force_form=false; number_after_marker and tag can be forced")
    with pytest.raises(ConfigError, match="holds a quotation mark or a backslash"):
        forced_schema(DRAFT_SCHEMA, CHOICE.model_copy(update={"choices": ('"Yes"', "No")}), 100)
