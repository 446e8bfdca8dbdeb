import pytest

from taskdef.records import AnswerSpec
from taskdef.verify.compare import is_permitted, same_answer

NUMERIC = AnswerSpec(read="exact", compare="numeric")
MATH = AnswerSpec(read="boxed", compare="math")
LETTERS = AnswerSpec(read="tag", compare="choice", choices=("A", "B", "C", "D"))
NLI = AnswerSpec(read="tag", compare="choice", choices=("entailment", "neutral", "contradiction"))
LABELS = AnswerSpec(read="tag", compare="label_set", choices=("toxic", "insult", "rock and roll", "n/a"))
TEXT = AnswerSpec(read="exact", compare="text")


@pytest.mark.parametrize(
    ("spec", "a", "b"),
    [
        (NUMERIC, "5", "5.0"),
        (NUMERIC, "1,234", "1234"),
        (NUMERIC, "$5", "5"),
        (NUMERIC, "1/2", "0.5"),
        (NUMERIC, "1 1/2", "1.5"),
        (NUMERIC, "-1 1/2", "-1.5"),
        (NUMERIC, "1/3", "0.33333334"),
        (NUMERIC, "25%", "25"),
        (NUMERIC, "25%", "0.25"),
        (NUMERIC, "1/4", "25%"),
        (NUMERIC, "1e3", "1000"),
        (NUMERIC, "0", "-0.0"),
        (NUMERIC, "none", "None"),
        (MATH, r"\frac{1}{2}", "0.5"),
        (MATH, "x+1", "1+x"),
        (MATH, "(1,2)", "(1, 2)"),
        (MATH, r"\sqrt{8}", r"2\sqrt{2}"),
        (MATH, "$5$", "5"),
        (LETTERS, "B", "(b)"),
        (LETTERS, "B", "B."),
        (LETTERS, "B", "**B**"),
        (LETTERS, "B", r"\text{B}"),
        (LETTERS, "B", "B. Paris"),
        (LETTERS, "B", "(B) Paris"),
        (NLI, "neutral", " Neutral. "),
        (LABELS, "toxic, insult", "insult and toxic"),
        (LABELS, "toxic; insult", "Insult/toxic"),
        (LABELS, "rock and roll, n/a", "n/a and Rock and Roll"),
        (TEXT, "New  York", '"new york."'),
    ],
)
def test_same(spec, a, b):
    assert same_answer(spec, a, b)
    assert same_answer(spec, b, a)


@pytest.mark.parametrize(
    ("spec", "a", "b"),
    [
        (NUMERIC, "25", "5"),
        (NUMERIC, "25", "0.25"),
        (NUMERIC, "5", "-5"),
        (NUMERIC, "5", "5.001"),
        (NUMERIC, "1 1/2", "11/2"),
        (NUMERIC, "5", "5 million"),
        (NUMERIC, "5", ""),
        (NUMERIC, "nan", "nan"),
        (NUMERIC, "inf", "inf"),
        (NUMERIC, "1/0", "0"),
        (NUMERIC, "1e999999999", "2e999999999"),
        (NUMERIC, "9" * 2000, "9" * 1999),
        (MATH, "25", "5"),
        (MATH, "x+1", "x-1"),
        (MATH, "(1,2)", "(2,1)"),
        (MATH, r"\text{nan}", r"\text{nan}"),
        (LETTERS, "B", "BB"),
        (LETTERS, "B", "A"),
        (LETTERS, "A", "A and B"),
        (LETTERS, "A", "A man"),
        (NLI, "neutral", "not neutral"),
        (NLI, "entailment", "contradiction"),
        (LABELS, "toxic", "toxic, insult"),
        (LABELS, "toxic", "nontoxic"),
        (TEXT, "5", "-5"),
        (TEXT, "5", "5%"),
        (TEXT, "New York", "York"),
    ],
)
def test_near_misses_differ(spec, a, b):
    assert not same_answer(spec, a, b)
    assert not same_answer(spec, b, a)


def test_tolerance_is_relative():
    loose = AnswerSpec(read="exact", compare="numeric", tolerance=0.01)
    assert same_answer(loose, "1000", "1009")
    assert not same_answer(loose, "1000", "1011")
    assert same_answer(AnswerSpec(read="exact", compare="numeric", tolerance=0), "1/3", "2/6")


@pytest.mark.parametrize(
    ("spec", "answer", "permitted"),
    [
        (NUMERIC, "12", True),
        (NUMERIC, "twelve", False),
        (LETTERS, "b.", True),
        (LETTERS, "E", False),
        (LABELS, "toxic, insult", True),
        (LABELS, "toxic, rude", False),
        (TEXT, "anything", True),
        (MATH, "x", True),
    ],
)
def test_permitted(spec, answer, permitted):
    assert is_permitted(spec, answer) is permitted
