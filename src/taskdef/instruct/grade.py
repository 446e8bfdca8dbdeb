"""How relevant a passage is: what is asked for, and reading it out of a response."""

from __future__ import annotations

from typing import Any

from taskdef.instruct.json_text import find_whole
from taskdef.instruct.thinking import without_thinking
from taskdef.records import Relevance

GRADE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"relevance": {"type": "string", "enum": [relevance.value for relevance in Relevance]}},
    "required": ["relevance"],
    "additionalProperties": False,
}


def read_grade(text: str) -> Relevance | None:
    """The grade in a response: the last JSON object with a known one, or a response that is one word of the scale.

    Words inside prose do not count: "not relevant" holds one, and means another. None where there is no grade.
    """
    answer = without_thinking(text).text
    for found in reversed(find_whole(answer)):
        if isinstance(found.value, dict) and (grade := _known(found.value.get("relevance"))) is not None:
            return grade
    return _known(answer)


def _known(value: Any) -> Relevance | None:
    word = value.strip(" \n\t\"'`*.").lower() if isinstance(value, str) else ""
    return next((relevance for relevance in Relevance if relevance.value == word), None)
