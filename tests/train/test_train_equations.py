"""Written equations: those that can be read for certain are checked, all others are left alone."""

from __future__ import annotations

import pytest

from taskdef.train.equations import Equation, written_equations


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("She has 3 + 4 = 7 apples.", [("3+4=7", True)]),
        ("3 + 4 = 8", [("3+4=8", False)]),
        ("12 x $3 = $36, then 36/4=9.", [("12*3=36", True), ("36/4=9", True)]),
        ("<<1,000/8=125>>125 boxes", [("1000/8=125", True)]),
        ("$2 \\times (3 + 1) = 8$", [("2*(3+1)=8", True)]),
        ("total = 2 * 5 = 10", [("2*5=10", True)]),
        ("3 + 4 = 7 + 2 = 9", [("3+4=7+2", False), ("7+2=9", True)]),
        ("10/3 = 3.33", [("10/3=3.33", True)]),
        ("2/3 = 0.67", [("2/3=0.67", True)]),
        ("2/3 = 0.66", [("2/3=0.66", True)]),
        ("2/3 = 0.64", [("2/3=0.64", False)]),
        ("10/3 = 3", [("10/3=3", False)]),
        ("1/3 + 1/3 = 2/3", [("1/3+1/3=2/3", True)]),
        ("-3 + 5 = 2", [("-3+5=2", True)]),
        ("0.1 + 0.2 = 0.3", [("0.1+0.2=0.3", True)]),
        ("5 \u00d7 6 = 30\n30 \u2212 1 = 28", [("5*6=30", True), ("30-1=28", False)]),
    ],
)
def test_what_is_written_is_checked(text: str, found: list[tuple[str, bool]]) -> None:
    assert written_equations(text) == [Equation(*each) for each in found]


@pytest.mark.parametrize(
    "text",
    [
        "2x = 4",
        "x2 + 1 = 4",
        "2x - 3 = 7",
        "50% of 20 = 10",
        "half of 8 + 2 = 6",
        "20% + 30 = 80",
        "3/4 = 75%",
        "3 times 4 + 1 = 20",
        "2 * 3 = 6 thousand",
        "2^3 + 1 = 9",
        "2**3 = 8",
        "Day 3 = 4 apples",
        "5 = 5",
        "5 dollars * 3 = 15 dollars",
        "1 1/2 + 1 = 2.5",
        "3 / 0 = 0",
        "7 // 2 = 3",
        "3 + 4 == 7",
        "= ",
        "2(3) = 6",
        "1 + " * 100 + "1 = 101",
        "(" * 150 + "1+1" + ")" * 150 + " = 2",
        "no equation at all",
    ],
)
def test_what_cannot_be_read_for_certain_is_left_alone(text: str) -> None:
    assert written_equations(text) == []


def test_reading_takes_time_in_proportion_to_the_text() -> None:
    # seconds, where any part of a run could be read in more than one way
    assert written_equations("1 = " * 20_000) == []
    assert written_equations("1+1" + " " * 50_000 + "x") == []
