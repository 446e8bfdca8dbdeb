import pytest

from taskdef.records import AnswerSpec
from taskdef.verify.judge import judge
from taskdef.verify.vote import Tally, tally_answers

NUMBER = AnswerSpec(read="number_after_marker", compare="numeric")
TAG = AnswerSpec(read="tag", compare="choice", choices=("A", "B"))
EXACT = AnswerSpec(read="exact", compare="text")


@pytest.mark.parametrize(
    ("spec", "text", "gold", "truncated", "verdict"),
    [
        (NUMBER, "#### 12", "12", False, "correct"),
        (NUMBER, "#### 13", "12", False, "wrong"),
        (NUMBER, "12", "12", False, "no_answer"),
        (NUMBER, "", "12", False, "no_answer"),
        (NUMBER, "", "12", True, "truncated"),
        (NUMBER, "so we", "12", True, "truncated"),
        (NUMBER, "#### 12", "12", True, "truncated"),  # may be the start of 123
        (NUMBER, "#### 12.", "12", True, "truncated"),  # may be the start of 12.5
        (NUMBER, "#### 12\n", "12", True, "correct"),
        (NUMBER, "#### 12 because", "12", True, "correct"),
        (NUMBER, "#### 13 because", "12", True, "wrong"),
        (TAG, "<answer>A</answer>", "A", True, "correct"),
        (TAG, "<answer>A</answe", "A", True, "truncated"),
        (EXACT, "Paris", "Paris", True, "truncated"),
        (EXACT, "Paris", "Paris", False, "correct"),
    ],
)
def test_verdicts(spec, text, gold, truncated, verdict):
    judgement = judge(spec, text, gold, truncated=truncated)
    assert judgement.verdict == verdict
    assert judgement.lenient_verdict is None


def test_strict_and_lenient_verdicts_side_by_side():
    judgement = judge(NUMBER, "It is 12.", "12", truncated=False, lenient=True)
    assert (judgement.answer, judgement.verdict, judgement.lenient_verdict) == (None, "no_answer", "correct")
    cut = judge(NUMBER, "It is 12", "12", truncated=True, lenient=True)
    assert (cut.verdict, cut.lenient_verdict) == ("truncated", "truncated")


def test_a_failing_function_is_missing_data():
    spec = AnswerSpec(read="function", function="json.loads", compare="text")
    judgement = judge(spec, "{", "x", truncated=False, lenient=True)
    assert (judgement.verdict, judgement.lenient_verdict) == ("verifier_error", "verifier_error")
    assert judgement.failure.startswith("JSONDecodeError")


def equal(a: str, b: str) -> bool:
    return a == b


def test_plurality_wins():
    assert tally_answers(["7", "8", None, "7"], equal) == Tally("7", 2, 3, (0, 3))


def test_a_tie_has_no_winner():
    assert tally_answers(["7", "8"], equal) == Tally(None, 1, 2, ())


def test_no_votes():
    assert tally_answers([None, None], equal) == Tally(None, 0, 0, ())
    assert tally_answers([], equal) == Tally(None, 0, 0, ())


def test_groups_do_not_drift_along_a_tolerance():
    def close(a: str, b: str) -> bool:
        return abs(float(a) - float(b)) < 0.15

    # 1.0 takes 1.1 in; 1.2 is close to 1.1 but not to 1.0, so it stands alone.
    assert tally_answers(["1.0", "1.1", "1.2"], close) == Tally("1.0", 2, 3, (0, 1))
