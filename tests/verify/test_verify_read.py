import pytest

from taskdef.errors import DefinitionError
from taskdef.records import AnswerSpec
from taskdef.verify.lenient import find_leniently
from taskdef.verify.read import read_answer, render_answer

NUMBER = AnswerSpec(read="number_after_marker", compare="numeric")
BOXED = AnswerSpec(read="boxed", compare="math")
TAG = AnswerSpec(read="tag", compare="choice", choices=("A", "B", "C", "D"))
YES_NO = AnswerSpec(read="tag", compare="choice", choices=("Yes", "No"))
EXACT = AnswerSpec(read="exact", compare="text")
REGEX = AnswerSpec(read="regex", pattern=r"Answer:\s*(\w+)", compare="text")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7\n#### 7", "7"),
        ("#### 7\nno, rather\n#### 8", "8"),
        ("####7", "7"),
        ("####\n  7", "7"),
        ("#### 1,234,567", "1234567"),
        ("#### -3", "-3"),
        ("#### \u22123", "-3"),
        ("#### +3", "3"),
        ("#### 4.50", "4.50"),
        ("#### .5", ".5"),
        ("#### 3/4", "3/4"),
        ("#### 3 / 4", "3/4"),
        ("#### 1 3/4", "1 3/4"),
        (r"#### \frac{3}{4}", "3/4"),
        ("#### $18", "18"),
        ("#### -$18", "-18"),
        ("#### $-18", "-18"),
        (r"#### \$1,000.", "1000"),
        ("#### $18$", "18"),
        ("#### \u20ac 9", "9"),
        ("#### 25%", "25%"),
        ("#### 25 %", "25%"),
        ("#### 12.", "12"),
        ("#### 1e-3", "1e-3"),
        ("#### **12**", "12"),
        ("#### 12 apples", "12"),
        ("#### 12, as shown", "12"),
    ],
)
def test_number_after_marker(text, answer):
    assert read_answer(NUMBER, text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The answer is 7",
        "####",
        "#### Step 1: add",  # a heading in Markdown is no answer
        "#### 7\n#### done",  # the last marker counts
        "#### 1,23",  # neither 1 nor 123
        "#### 1.2.3",
        "#### nan",
        "#### -",
        "7 ####",
    ],
)
def test_no_number_after_marker(text):
    assert read_answer(NUMBER, text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{5} or \boxed{6}.", "6"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{5} and \boxed{6", "5"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"{ \boxed {7}", "7"),
        (r"\fbox{8}", "8"),
        (r"$\boxed 9$", "9"),
        (r"\boxed{ }", None),
        (r"\boxed", None),
        ("boxed{5}", None),
    ],
)
def test_boxed(text, answer):
    assert read_answer(BOXED, text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>x</think><answer>B</answer>", "B"),
        ("<answer> B </answer>", "B"),
        ("<ANSWER>B</Answer>", "B"),
        ("<answer>A</answer> no: <answer>B</answer>", "B"),
        ("<answer>A</answer> <answer>B", "A"),
        ("<answer>A <answer>B</answer>", "B"),
        ("<answer>A</answer></answer>", "A"),
        ("<answer>B", None),
        ("B</answer>", None),
        ("</answer>B<answer>", None),
        ("<answer></answer>", None),
        ("<answers>B</answers>", None),
        ("<answer>two\nlines</answer>", "two\nlines"),
    ],
)
def test_tag(text, answer):
    assert read_answer(TAG, text) == answer


def test_exact_and_regex():
    assert read_answer(EXACT, "  Paris \n") == "Paris"
    assert read_answer(EXACT, " \n") is None
    assert read_answer(REGEX, "Answer: one. Answer: two.") == "two"
    assert read_answer(REGEX, "answer one") is None
    assert read_answer(AnswerSpec(read="regex", pattern=r"\d+", compare="text"), "1 22 333") == "333"
    assert read_answer(AnswerSpec(read="regex", pattern=r"x(\d)?", compare="text"), "x1 x") is None


def test_function_is_called_and_its_errors_come_out():
    upper = AnswerSpec(read="function", function="string.capwords", compare="text")
    assert read_answer(upper, "the end") == "The End"
    with pytest.raises(TypeError, match="returned int"):
        read_answer(AnswerSpec(read="function", function="builtins.len", compare="text"), "abc")
    with pytest.raises(DefinitionError, match=r"'string\.nowhere' cannot be imported"):
        read_answer(AnswerSpec(read="function", function="string.nowhere", compare="text"), "abc")


@pytest.mark.parametrize(
    ("spec", "text", "answer"),
    [
        (NUMBER, "5 apples and 7 pears make 12 fruits.", "12"),
        (NUMBER, "#### 12\nchecked in 3 ways", "12"),  # strict reading first
        (NUMBER, r"\boxed{12} after 3 steps", "12"),
        (NUMBER, "10-4 leaves 6-2", "2"),
        (NUMBER, "it is -4", "-4"),
        (NUMBER, "costs $1,234.50.", "1234.50"),
        (NUMBER, "none", None),
        (BOXED, r"thus $x = \sqrt{2}$ is it", r"\sqrt{2}"),
        (BOXED, "thus 15", "15"),
        (TAG, "The answer is B", "B"),
        (TAG, "I choose (B).", "B"),
        (TAG, "B. is wrong, so C.", "C"),
        (TAG, "The answer is A because D is too small.", "A"),
        (TAG, "Option A is wrong; B fits", "B"),
        (TAG, "C it is. A man must eat.", "C"),  # the article is no choice
        (TAG, "<answer>the answer is B</answer>", "B"),
        (TAG, "bad cab", None),
        (TAG, "<answer>E</answer>", "E"),  # nothing better to be found
        (YES_NO, "Yes, they may. In short: yes.", "Yes"),
        (YES_NO, "Nobody knows", None),
        (EXACT, "whatever it says", "whatever it says"),
        (REGEX, "no marker here", None),
        (AnswerSpec(read="exact", compare="choice", choices=("Yes", "No")), "The answer is no.", "No"),
        (
            AnswerSpec(read="tag", compare="label_set", choices=("toxic", "insult", "spam")),
            "Spam is out.\nLabels: insult and toxic",
            "insult, toxic",
        ),
    ],
)
def test_lenient_reading(spec, text, answer):
    found = find_leniently(spec, text)
    assert (found.answer if found else None) == answer


@pytest.mark.parametrize(
    ("spec", "answer", "text"),
    [
        (NUMBER, "12", "#### 12"),
        (NUMBER, "-3.5", "#### -3.5"),
        (NUMBER, "1 3/4", "#### 1 3/4"),
        (NUMBER, "25%", "#### 25%"),
        (AnswerSpec(read="number_after_marker", marker="The answer is", compare="numeric"), "4", "The answer is 4"),
        (BOXED, r"\frac{1}{2}", r"\boxed{\frac{1}{2}}"),
        (TAG, "B", "<answer>B</answer>"),
        (EXACT, "Paris", "Paris"),
        (REGEX, "Paris", "Answer:Paris"),
        (AnswerSpec(read="regex", pattern=r"(?i)^result is \((\d+)\)\.?$", compare="text"), "5", "result is (5)"),
        (AnswerSpec(read="regex", pattern=r"\d+", compare="text"), "5", "5"),
    ],
)
def test_rendered_answers_read_back(spec, answer, text):
    assert render_answer(spec, answer) == text
    assert read_answer(spec, text) == answer


@pytest.mark.parametrize(("spec", "answer"), [(NUMBER, "many"), (BOXED, "}{"), (TAG, ""), (REGEX, "two words")])
def test_what_cannot_be_rendered_is_refused(spec, answer):
    with pytest.raises(DefinitionError, match="cannot be written so that"):
        render_answer(spec, answer)
