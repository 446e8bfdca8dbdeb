"""What RFT keeps of a sample's attempts, and why it keeps no more."""

from __future__ import annotations

from typing import Any

import pytest

from taskdef.config import RftConfig
from taskdef.records import Attempt, Verdict
from taskdef.train.solutions import Fate, are_distinct, choose_solutions


def attempt(text: str, verdict: Verdict = Verdict.CORRECT, tokens: int = 5) -> Attempt:
    return Attempt(sample_id="s", text=text, answer=None, verdict=verdict, token_count=tokens)


ATTEMPTS = [
    attempt("3 + 4 = 7 #### 7"),
    attempt("3 + 4 = 8 #### 8", Verdict.WRONG),
    attempt("so 3 + 4 = 7 and we are done #### 7"),  # other words, the same equation
    attempt("3 * 2 = 7, or so #### 7"),
    attempt("4 + 3 = 7 #### 7"),
    attempt("who knows", Verdict.NO_ANSWER),
    attempt("5 + 2 = 7 #### 7", tokens=8),
    attempt("6 + 1 = 7 #### 7"),
    attempt("#### 7", Verdict.VERIFIER_ERROR),
    attempt("3 + 4 = ", Verdict.TRUNCATED, tokens=8),
]


@pytest.mark.parametrize(
    ("settings", "verified", "kept", "fates"),
    [
        (
            {"most_solutions": 4},
            None,
            ["3 + 4 = 7 #### 7", "4 + 3 = 7 #### 7", "6 + 1 = 7 #### 7"],
            {"kept": 3, "unsolved": 3, "same": 1, "wrong_equation": 1, "cut": 1, "unjudged": 1},
        ),
        (
            {"most_solutions": 1},
            None,
            ["3 + 4 = 7 #### 7"],
            {"kept": 1, "over_cap": 2, "unsolved": 3, "same": 1, "wrong_equation": 1, "cut": 1, "unjudged": 1},
        ),
        (
            {"most_solutions": 1},
            "First 3 + 4 = 7. #### 7",
            ["4 + 3 = 7 #### 7"],
            {"kept": 1, "over_cap": 1, "unsolved": 3, "same": 2, "wrong_equation": 1, "cut": 1, "unjudged": 1},
        ),
    ],
    ids=["all distinct", "cap", "beside the verified one"],
)
def test_attempts_are_kept_or_left_for_one_reason(
    settings: dict[str, Any], verified: str | None, kept: list[str], fates: dict[str, int]
) -> None:
    found, counted = choose_solutions(ATTEMPTS, RftConfig(**settings), max_new_tokens=8, verified=verified)
    assert found == kept
    assert dict(counted) == {Fate(name): count for name, count in fates.items()}
    assert counted.total() == len(ATTEMPTS)


@pytest.mark.parametrize(
    ("a", "b", "distinct"),
    [
        ("1 + 2 = 3", "two and one: 1+2=3 that is", False),
        ("1 + 2 = 3", "2 + 1 = 3", True),
        ("1 + 2 = 3, 3 + 1 = 4", "1 + 2 = 3", True),
        ("The answer is B", "The answer  is B\n", False),
        ("abcdefghij", "abcdefghXY", True),  # 2 of 10 letters: just the distance
        ("abcdefghij", "abcdefghiX", False),
        ("1 + 2 = 3", "three", True),  # one without equations: by edit distance
        ("", "", False),
    ],
)
def test_distinct_by_equations_else_by_edit_distance(a: str, b: str, distinct: bool) -> None:
    assert are_distinct(a, b, 0.2) is distinct
    assert are_distinct(b, a, 0.2) is distinct


def test_a_distance_of_zero_still_leaves_equal_texts_out() -> None:
    assert not are_distinct("a  b", "a b", 0.0)
    assert are_distinct("a c", "a b", 0.0)
