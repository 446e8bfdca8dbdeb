"""Samples and keywords out of what models really write."""

import pytest

from taskdef.instruct.draft_form import ParseFailure
from taskdef.instruct.parse import read_draft, read_keywords, read_output

PLAIN = '{"input": "1 + 1?", "output": "#### 2"}'
PAIR = ("1 + 1?", "#### 2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAIN, PAIR),
        (f"Here you are:\n```json\n{PLAIN}\n```\nGood luck!", PAIR),
        (f"```\n{PLAIN}\n```", PAIR),
        (f"Sure, {{as you like}}: {PLAIN} and that is all.", PAIR),
        (f"<think>maybe {{'input': 'no'}}</think>{PLAIN}", PAIR),
        ('{"Input": "1 + 1?", "OUTPUT": "#### 2"}', PAIR),
        ('{"question": "1 + 1?", "solution": "#### 2"}', PAIR),
        ('{"sample": {"input": "1 + 1?", "output": "#### 2"}}', PAIR),
        ("{'input': '1 + 1?', 'output': '#### 2'}", PAIR),
        ('{"input": "1 + 1?", "output": "#### 2",}', PAIR),
        ('{"input": "1 + 1?", "output": "#### 2"', PAIR),
        ('{"input": "1 + 1?",\n "output": "so\n#### 2"}', ("1 + 1?", "so\n#### 2")),
        ('{"input": "1 + 1?", "output": 2}', ("1 + 1?", "2")),
        ('{"input": "1 + 1?", "output": ["two", "#### 2"]}', ("1 + 1?", "two\n#### 2")),
        ('{"input": "...", "output": "..."}\n' + PLAIN, PAIR),
        (PLAIN + "\n" + '{"input": "2 + 2?", "output": "#### 4"}', PAIR),
        (r'{"input": "\frac{1}{2} \times 4", "output": "\boxed{2}"}', (r"\frac{1}{2} \times 4", r"\boxed{2}")),
        (r'{"input": "\\frac{1}{2}", "output": "a\nb"}', (r"\frac{1}{2}", "a\nb")),
        (r'{"input": "\(x\) \nu \right)", "output": "\underline{1}"}', (r"\(x\) \nu \right)", r"\underline{1}")),
        (r'{"input": "caf\u00e9 \"q\"", "output": "a\tb"}', ('café "q"', "a\tb")),
        (r'{"input": "1 \ud83d 1?", "output": "so \udc00\n#### 2"}', ("1 ? 1?", "so ?\n#### 2")),
        (r'{"input": "\ud83d\ude00?", "output": ["\ud83d", "#### 2"]}', ("😀?", "?\n#### 2")),
    ],
)
def test_a_sample_is_found(text: str, expected: tuple[str, str]) -> None:
    assert read_draft(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ParseFailure.EMPTY),
        ("I cannot do that.", ParseFailure.REFUSED),
        ('{"input": "1 + 1?"}', ParseFailure.NO_OUTPUT),
        ('{"input": "", "output": "x"}', ParseFailure.NO_INPUT),
        ('["input", "output"]', ParseFailure.NO_OBJECT),
        ('{"input": null, "output": true}', ParseFailure.NO_INPUT),
    ],
)
def test_where_there_is_no_sample_the_reason_is_named(text: str, reason: ParseFailure) -> None:
    assert read_draft(text) is reason


def test_the_same_text_is_a_sample_or_half_a_one_by_whether_the_limit_cut_it() -> None:
    text = '{"input": "60 + 63?", "output": "#### 12'
    assert read_draft(text) == ("60 + 63?", "#### 12")
    assert read_draft(text, cut=True) is ParseFailure.CUT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"keywords": ["sum", "difference", "sum"]}', ["sum", "difference"]),
        (r'["half a pair \ud83d"]', ["half a pair ?"]),
        ('Here: ["sum", "minus"]', ["sum", "minus"]),
        ("Keywords:\n1. sum\n2. minus\n- *plus*", ["sum", "minus", "plus"]),
        ("sum, minus; plus", ["sum", "minus", "plus"]),
        ("", []),
        ("I would be happy to name many words for you but", []),
    ],
)
def test_keywords_are_read_from_lists_of_many_shapes(text: str, expected: list[str]) -> None:
    assert read_keywords(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"output": "so\n#### 2"}', "so\n#### 2"),
        ('{"output": "so\\n#### 2"}', "so\n#### 2"),
        ('{"output": "#### 2', "#### 2"),
        ('{"output": " "}', None),
        ("#### 2", None),
    ],
)
def test_an_output_alone_is_read_out_of_its_object(text: str, expected: str | None) -> None:
    assert read_output(text) == expected
