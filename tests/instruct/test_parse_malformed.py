"""The corpus of malformed responses: each is read as a person would read it, or refused with the right reason.

``malformed/*.jsonl`` holds one response a line: ``name``, ``form``, ``kind`` (draft, output or keywords), ``text``,
``cut`` where the token limit ended it, and ``expected``; null where nothing may be read, with the ``reason``.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from taskdef.instruct.draft_form import ParseFailure
from taskdef.instruct.parse import read_draft, read_keywords, read_output

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for path in sorted((Path(__file__).parent / "malformed").glob("*.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines()
]


def rows(kind: str) -> list[Any]:
    return [pytest.param(row, id=f"{row['form']}-{row['name']}") for row in ROWS if row["kind"] == kind]


def test_the_corpus_is_large_and_names_each_row_once() -> None:
    assert len(ROWS) >= 150
    assert [name for name, count in Counter(row["name"] for row in ROWS).items() if count > 1] == []
    assert {row["reason"] for row in ROWS if row["kind"] == "draft" and not row["expected"]} == {*ParseFailure}


@pytest.mark.parametrize("row", rows("draft"))
def test_a_draft_is_read_or_refused_with_its_reason(row: dict[str, Any]) -> None:
    expected = row["expected"]
    assert read_draft(row["text"], cut=row.get("cut", False)) == (
        (expected["input"], expected["output"]) if expected else ParseFailure(row["reason"])
    )


@pytest.mark.parametrize("row", rows("output"))
def test_an_output_is_read_or_it_is_none(row: dict[str, Any]) -> None:
    expected = row["expected"]
    assert read_output(row["text"], cut=row.get("cut", False)) == (expected["output"] if expected else None)


@pytest.mark.parametrize("row", rows("keywords"))
def test_keywords_are_read_or_there_are_none(row: dict[str, Any]) -> None:
    expected = row["expected"]
    assert read_keywords(row["text"]) == (expected["keywords"] if expected else [])
