"""No text crashes the parser or holds it up: 1 MB of the worst kinds takes under a second, and random texts pass."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdef.instruct.draft_form import ParseFailure
from taskdef.instruct.json_text import unescaped
from taskdef.instruct.latex import escape_latex
from taskdef.instruct.parse import read_draft, read_keywords, read_output
from taskdef.instruct.thinking import without_thinking

MEGABYTE = 10**6
SETTINGS = settings(deadline=1_000, derandomize=True, database=None)
"""The same texts every time; take derandomize away to search further."""
BEGINNINGS = ("", "{", "[", '{"input": "', '{"input": "a", "output": ', '{"input": "a", "output": "')
REPEATED = (
    # brackets and nesting
    "{", "[", "}", "(", '[{"a":', '{"a":', '{"input":', '{"input":{"output":[', "[]", "{} ", '{"a":1},', '["a",', "(1,",
    # quotation marks, which json-repair looks ahead from
    '"', "'", "“", "`", '""', '"" ', '",', '" ', '"}x', '"#', '"/*', '"\\n', "'a'b", "a'b\"c", '"a\\"b',
    '", c ', 'x" y, "z": ',
    # backslashes and LaTeX
    "\\", "\\\\ ", "\\frac", "\\begin{a}\\\\", "\\u", "\\\\\\n", '{\\"input\\": \\"', "{\\n",
    # thinking, fences, comments, tags, entities
    "<think>", "</think>", "<think></think>", '<think>{"input":', "<|channel|>final<|message|>", "<|channel|>",
    "```\n", "```json\n{", "`` `", "// \n", "/* ", "<", "<input>", "<input ", "<input><output>",
    "&", "&quot;", "&#34;1",
    # labels and prose
    "Input: ",
    "Input: a\nOutput: ", "output: ", "input=", "dict(input='", "输入：", "#", "*", "_", "- ", "k: v\n", "a, b: c ",
    # blanks, digits and odd characters
    " ", "\n", "\t", "\u00a0", "\u200b", "\x00", "\ud83d", "😀", "1", ".", ":", ",", "/",
    # whole objects that are no sample
    '{"input":"..."}', '{"input":{"type":"string"},"output":{"type":"string"}}', '{"input":"a"}',
)  # fmt: skip
READERS: tuple[Callable[[str], Any], ...] = (
    read_draft,
    lambda text: read_draft(text, cut=True),
    read_output,
    read_keywords,
)


@pytest.mark.slow
@pytest.mark.parametrize("repeated", REPEATED)
def test_a_megabyte_of_anything_is_read_in_under_a_second(repeated: str) -> None:
    for beginning in BEGINNINGS:
        text = (beginning + repeated * (MEGABYTE // len(repeated)))[:MEGABYTE]
        for read in READERS:
            assert seconds(read, text) < 1.0, beginning


@pytest.mark.parametrize(
    "text",
    ["{" * MEGABYTE, '{"input": "' + "\\" * MEGABYTE, "['a" + "'b'c" * 250_000, BEGINNINGS[4] + '{"a":' * 200_000],
)
def test_a_megabyte_of_the_worst_kinds_is_read_in_under_a_second(text: str) -> None:
    assert seconds(read_draft, text) < 1.0


@pytest.mark.parametrize("depth", [10, 100, 900, 5_000])
def test_nesting_of_any_depth_is_read(depth: int) -> None:
    for text in (
        '{"a":' * depth + "1" + "}" * depth,
        "[" * depth + "]" * depth,
        '{"input":' * depth + "1" + "}" * depth,
    ):
        assert isinstance(read_draft(text), ParseFailure)
        read_keywords(text)


def test_numbers_too_long_for_python_are_no_crash() -> None:
    digits = "7" * 5_000
    assert read_draft(f'{{"input": "a", "output": {digits}}}') == ("a", digits)
    assert read_draft(f'&#{digits}; {{"input": "a"') is ParseFailure.NO_OUTPUT
    read_keywords(f"[{digits}]")


@settings(SETTINGS, max_examples=200)
@given(st.text(alphabet=st.characters(), max_size=400))
def test_random_text_is_no_crash(text: str) -> None:
    check_all(text)


PIECES = (
    *REPEATED, *BEGINNINGS,
    "input", "output", "answer", '"input"', "'output'", ": ", ", ", "}", "]", ")", "</think>", "\r\n",
    "true", "None", "NaN", "-1.5e400", "**Output:**", "</output>", "<![CDATA[", "'''", "// c\n", "…", "\ue000",
    "I'm sorry", '{"type": "object", "properties": {', "\\end{a}", "\\nu", "\\u00e9",
)  # fmt: skip


@settings(SETTINGS, max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_pieces_of_json_and_markup_in_any_order_are_no_crash(text: str) -> None:
    check_all(text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just("input"), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(SETTINGS, max_examples=200)
@given(JSON_VALUES, st.data())
def test_json_that_was_damaged_anywhere_is_no_crash(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    begin, end = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    check_all(text[:begin] + data.draw(st.sampled_from(("", '"', "\\", "}"))) + text[end:])


PLAIN = st.text(
    alphabet=st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\"), min_size=1, max_size=80
).map(lambda text: f"Q {text} A")


@settings(SETTINGS, max_examples=300)
@given(
    PLAIN.filter(lambda text: "\\" not in text),
    PLAIN.filter(lambda text: "\\" not in text),
    st.booleans(),
    st.booleans(),
)
def test_a_valid_object_is_read_as_it_stands(given_input: str, output: str, ascii_only: bool, fenced: bool) -> None:
    text = json.dumps({"input": given_input, "output": output}, ensure_ascii=ascii_only)
    assert read_draft(f"Here:\n```json\n{text}\n```" if fenced else text) == (given_input, output)


@settings(SETTINGS)
@given(st.text(max_size=200))
def test_text_without_a_backslash_needs_no_escape(text: str) -> None:
    plain = text.replace("\\", "")
    assert escape_latex(plain) == plain
    assert without_thinking(plain).text in plain


@settings(SETTINGS)
@given(st.text(max_size=200))
def test_a_string_of_a_broken_object_is_always_read(text: str) -> None:
    assert isinstance(unescaped(text), str)


def seconds(read: Callable[[str], Any], text: str) -> float:
    began = time.process_time()  # of this process alone: a busy machine is no fault of the parser's
    read(text)
    return time.process_time() - began


def check_all(text: str) -> None:
    """Whatever is read is clean text: not empty, no blanks around it, writable as UTF-8, without the cut's mark."""
    for cut in (False, True):
        reading = read_draft(text, cut=cut)
        parts = [] if isinstance(reading, ParseFailure) else [*reading]
        parts += [output for output in (read_output(text, cut=cut),) if output is not None]
        for part in [*parts, *read_keywords(text)]:
            assert part
            assert part == part.strip()
            part.encode("utf-8")
