"""The JSON schema of a draft, and the strict schemas that leave an instructor no other way than the task's form."""

from __future__ import annotations

import re
from typing import Any

from taskdef.errors import ConfigError
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec

DRAFT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}, "output": {"type": "string"}},
    "required": ["input", "output"],
    "additionalProperties": False,
}
"""What every draft is asked for: two texts."""
OUTPUT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"output": {"type": "string"}},
    "required": ["output"],
    "additionalProperties": False,
}
"""An output alone, in the task's form."""
_NUMBER = r"-?[0-9]{1,9}(\.[0-9]{1,6})?"
_PLAIN = r'[^"\\]'
# Servers disagree on whether a pattern is matched against the text or against its JSON spelling. Without quotation
# marks and backslashes the two are the same (line breaks in a JSON string are read all the same, see parse.py).
_LONGEST_FREE_TEXT = 1_000
"""llama.cpp refuses grammars with many more repetitions."""
_REGEX_SIGNS = re.compile(r"[\\^$.|?*+()\[\]{}/-]")


def forced_schema(schema: dict[str, Any], spec: AnswerSpec, max_tokens: int) -> dict[str, Any]:
    """The schema with a pattern for its ``output``: free text, then an answer as ``spec`` reads it, and no more.

    A schema without an ``output`` comes back as it is. The free text has at most half as many characters as the
    response has tokens, so that the answer is reached before the limit cuts the response off. What is written is
    checked afterwards like any other draft. Raises ConfigError where the form cannot be put in such a pattern.
    """
    if "output" not in schema["properties"]:
        return schema
    return {**schema, "properties": {**schema["properties"], "output": _forced_output(spec, max_tokens)}}


def forced_answer_schema(spec: AnswerSpec, max_tokens: int) -> dict[str, Any]:
    """The schema of a further answer, put to the vote: the output alone, as in ``forced_schema``."""
    return forced_schema(OUTPUT_SCHEMA, spec, max_tokens)


def _forced_output(spec: AnswerSpec, max_tokens: int) -> dict[str, str]:
    free = f"{_PLAIN}{{0,{max(1, min(max_tokens // 2, _LONGEST_FREE_TEXT))}}}"
    return {"type": "string", "pattern": f"^{free}{_answer_pattern(spec)}$"}


def _answer_pattern(spec: AnswerSpec) -> str:
    if spec.read is AnswerReading.NUMBER_AFTER_MARKER:
        literals, pattern = [spec.marker], f"{_escaped(spec.marker)} {_NUMBER}"
    elif spec.read is AnswerReading.TAG:
        literals = [spec.tag, *spec.choices]
        pattern = f"<{_escaped(spec.tag)}>{_content_pattern(spec)}</{_escaped(spec.tag)}>"
    else:
        raise ConfigError(
            f"instruct.force_form: an answer with `read: {spec.read.value}` cannot be forced",
            next_step="--set instruct.force_form=false; number_after_marker and tag can be forced",
        )
    if any(sign in literal for literal in literals for sign in '"\\'):
        raise ConfigError(
            "instruct.force_form: the marker, the tag or a choice holds a quotation mark or a backslash",
            next_step="--set instruct.force_form=false",
        )
    return pattern


def _content_pattern(spec: AnswerSpec) -> str:
    if spec.choices:
        one = f"({'|'.join(map(_escaped, spec.choices))})"
        more = f"(, {one}){{0,{len(spec.choices) - 1}}}"
        return one + more if spec.compare is AnswerComparison.LABEL_SET and len(spec.choices) > 1 else one
    return _NUMBER if spec.compare is AnswerComparison.NUMERIC else r'[^"\\<>]{1,80}'


def _escaped(literal: str) -> str:
    # re.escape also escapes blanks and #, which other engines take for faults
    return _REGEX_SIGNS.sub(lambda sign: "\\" + sign[0], literal)
