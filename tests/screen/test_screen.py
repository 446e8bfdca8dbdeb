"""What the screen keeps out and, as important, what it lets through."""

import random
import time

import pytest

from taskdef.records import Demo, DropReason
from taskdef.screen.screen import Screen
from taskdef.screen.text import take_apart

STORY = (
    "Maria keeps bees behind her house and every summer she fills jars with honey for the market in town. "
    "This year she filled 24 jars and gave 7 of them to her neighbours before the market opened. "
    "How many jars of honey did Maria take to the market in town?"
)


def reasons(findings: list[tuple[DropReason, str] | None]) -> list[DropReason | None]:
    return [finding[0] if finding else None for finding in findings]


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("What is 12 + 7?", "  what is\n12+7 ", True),
        ("\uff21BC", "abc", True),
        ("What is 12 + 7?", "What is 12 - 7?", False),
        ("What is 12 + 7?", "What is 127?", False),
        ("2*(3+4)", "(2*3)+4", False),
        ("1,000", "1.000", False),
        ("-5 + 3", "5 + 3", False),
        ("well-known", "well known", False),
    ],
)
def test_normal_form_forgives_looks_but_not_meaning(a: str, b: str, equal: bool) -> None:
    assert (take_apart(a).normal == take_apart(b).normal) is equal


def test_the_first_of_equals_is_kept_and_named() -> None:
    findings = Screen([], []).sift(["What is 1 + 1?", "what is 1+1", "What is 1 + 2?"], ["a", "b", "c"])
    assert findings == [None, (DropReason.DUPLICATE, "a"), None]


def test_near_duplicates_go_but_other_numbers_or_signs_make_another_problem() -> None:
    changed = STORY.replace("opened", "started")
    other_number = STORY.replace("24", "25")
    swapped = STORY.replace("24", "N").replace("7", "24").replace("N", "7")
    different = STORY.replace("bees", "goats").replace("honey", "cheese").replace("Maria", "Ines")
    findings = Screen([], []).sift([STORY, changed, other_number, swapped, different])
    # 48 words, 46 3-grams; one changed word touches 3 of them: 43 / 49 = 0.88 of all
    assert reasons(findings) == [None, None, None, None, None]
    findings = Screen([], [], near_duplicate_similarity=0.8).sift([STORY, changed, other_number, swapped, different])
    assert reasons(findings) == [None, DropReason.DUPLICATE, None, None, None]


def test_a_templated_task_loses_nothing() -> None:
    template = "State the final answer to the following arithmetic problem, and say nothing else at all: {} + {} ="
    test = [template.format(a, b) for a in range(10, 30) for b in range(5)]
    inputs = [template.format(a, b) for a in range(10, 30) for b in range(50, 60)]
    assert reasons(Screen(test, []).sift(inputs)) == [None] * 200


def test_a_template_with_a_slot_for_a_word_loses_nothing() -> None:
    template = (
        "Your task is to spell one word backward. Read it slowly, from its last letter to its first letter, and write "
        "down each letter as you go along, without any space between them and without anything else. The word is {}"
    )
    words = ["river", "stone", "cloud", "table", "green", "north", "bread", "sugar", "lemon", "house", "light", "chair"]
    assert reasons(Screen([], []).sift([template.format(word) for word in words])) == [None] * 12


def test_an_input_of_the_test_set_goes_also_in_other_dress() -> None:
    screen = Screen(["What is 3 + 4?", STORY], [])
    longer = "Consider this. " + STORY + " Explain."
    findings = screen.sift(["what is 3+4", longer, STORY.replace("24", "25"), "What is 3 + 5?"])
    assert findings[0] == (DropReason.OVERLAPS_TEST, "equal to test row 0")
    # 53 tokens now: 41 of its 44 8-grams are the story's
    assert reasons(findings) == [DropReason.OVERLAPS_TEST, DropReason.OVERLAPS_TEST, DropReason.OVERLAPS_TEST, None]
    assert "in test row 1" in findings[1][1]  # type: ignore[index]


def test_sharing_exactly_the_limit_is_no_overlap() -> None:
    test = "a b c d e f g h i"  # 2 8-grams
    half, more = "x a b c d e f g h", "a b c d e f g h i x"  # 1 of 2; 2 of 3
    assert reasons(Screen([test], []).sift([half, more])) == [None, DropReason.OVERLAPS_TEST]


def test_an_input_equal_to_a_demos_goes() -> None:
    findings = Screen([], [Demo(input="What is 1 + 1?", output="#### 2")]).sift(["What is 1+1 ?"])
    assert reasons(findings) == [DropReason.OVERLAPS_DEMO]


def test_what_an_earlier_stage_kept_counts() -> None:
    screen = Screen([], [])
    screen.remember(["What is 1 + 1?"], ["first"])
    assert screen.sift(["What is 1 + 1?"]) == [(DropReason.DUPLICATE, "first")]


def test_strange_inputs_pass_without_harm() -> None:
    inputs = ["", "?!", "\x00", "\ud800", "数は三つ", "a " * 5000]
    assert reasons(Screen(["x"], []).sift(inputs))[4:] == [None, None]


def test_thousands_of_samples_against_thousands_of_test_rows_take_seconds() -> None:
    rng = random.Random(0)
    vocabulary = [f"w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(3000)]

    def text() -> str:
        return "Read this and say how many there are: " + " ".join(rng.choices(vocabulary, k=40))

    test, inputs = [text() for _ in range(2000)], [text() for _ in range(1000)]
    inputs[500], inputs[600] = test[7] + " now", inputs[3]
    began = time.monotonic()
    findings = Screen(test, []).sift(inputs)
    assert time.monotonic() - began < 3
    assert [i for i, finding in enumerate(findings) if finding] == [500, 600]
