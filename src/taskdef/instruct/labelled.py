"""Input and output found by their names, where the JSON around them is broken or missing.

json-repair does not know which keys are wanted, so it has to guess which quotation mark ends a value. Here a value ends
where the other key begins, or where the object ends. The same search reads ``Input: … Output: …`` and YAML.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from taskdef.instruct.draft_form import INPUT_NAMES, OUTPUT_NAMES, ParseFailure, Reading, as_draft, as_text
from taskdef.instruct.json_text import repaired, unescaped

END_OF_CUT = "\ue000"
"""Stands after a response that the token limit cut (a sign for private use): a value that holds it is not complete."""
_DOUBLE, _SINGLE, _CORNER = '"“”„‟＂«»', "'‘’‚`＇", "「」『』"
_QUOTES = _DOUBLE + _SINGLE + _CORNER
_MOST_SAMPLES = 12

_LABEL = re.compile(
    rf"""
    (?P<lead>^[ \t>]{{0,99}}(?:[-*+•][ \t]{{1,9}}|\d{{1,2}}[.)][ \t]{{0,9}})?(?P<heading>\#{{1,6}}[ \t]{{0,9}})?
      |[{{｛(\[,，;；](?:\s|\\[nt]){{0,99}}|(?<=\W))
    (?P<open>\\{{0,3}}[{_QUOTES}]{{1,3}})?(?P<bold>[*_]{{0,2}})
    (?:(?:new|my|sample|example|expected|final)[_ ])?(?P<name>{"|".join((*INPUT_NAMES, *OUTPUT_NAMES))})
    [^\S\n]{{0,9}}(?P<inner>[:：]?)[*_]{{0,2}}(?P<close>\\{{0,3}}[{_QUOTES}]{{1,3}})?
    [^\S\n]{{0,9}}(?P<sign>[:：]|=>?|(?=[{_QUOTES}])|(?=[ \t]*$)|)
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
_OTHER_KEY = rf"[,，]\s{{0,99}}[{_QUOTES}][\w -]{{0,40}}(?:[{_QUOTES}]\s{{0,9}}[:：]|{END_OF_CUT})"
_AFTER_QUOTED = re.compile(rf"(?<=[{_QUOTES}])\s{{0,9}}{_OTHER_KEY}")
_AFTER_BARE = re.compile(_OTHER_KEY)
_BETWEEN = r"(?:[\s,，;；.…]|\\[nt]|//[^\n]{0,99}\n|\#[^\n]{0,99}\n|/\*[^*]{0,99}\*/){0,20}"
_AFTER_OBJECT = ("\n\n", "\n\r\n", "\n```", "\n~~~", "```", "~~~", "<", "{", END_OF_CUT)
_COMMENT_LAST = re.compile(r"[,，]\s{0,9}(?://|#|/\*)[^\n]{0,99}\Z")
_TAG = re.compile(rf"<(?P<name>{'|'.join((*INPUT_NAMES, *OUTPUT_NAMES))})(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)
_TOKEN = re.compile(r"(?:<\|[\w ]{1,40}\|>|</s>|<end_of_turn>)+\Z")
_BARE_WORDS = {"true": True, "false": False, "none": None, "null": None}


@dataclass(frozen=True)
class _Label:
    start: int
    end: int
    name: str
    is_key: bool
    """A key of an object, by its quotation marks or the bracket or comma before it; else a word before a colon."""
    begins_line: bool

    @property
    def is_input(self) -> bool:
        return self.name in INPUT_NAMES


def read_fields(text: str) -> Iterator[Reading]:
    """The samples of a broken object, or of several: what stands at the keys."""
    labels = _labels(text)
    keys = [label for label in labels if label.is_key]
    if not any(not label.is_input for label in keys):  # no comma before it, and no quotation marks
        keys = [label for label in labels if label.is_key or label.begins_line] if keys else []
    yield from _read(text, keys, _field_value)


def read_labels(text: str) -> Iterator[Reading]:
    """The samples of a text with headings, labels or YAML."""
    labels = [label for label in _labels(text) if not label.is_key]
    begin_lines = [label for label in labels if label.begins_line]
    if not any(not label.is_input for label in begin_lines):  # "input: … output: …" on one line
        begin_lines += [label for label in labels if not label.begins_line and label.name == "output"]
    yield from _read(text, begin_lines, _plain_value)


def read_tags(text: str) -> Iterator[Reading]:
    """The sample between ``<input>`` and ``<output>`` tags."""
    labels = [_Label(tag.start(), tag.end(), tag["name"].lower(), True, True) for tag in _TAG.finditer(text)]
    yield from _read(text, labels, _tagged_value)


def read_output_field(text: str) -> str:
    """What stands at the last object's key for the output; empty where there is none."""
    labels = [label for label in _labels(text) if label.is_key and not label.is_input]
    chosen = [label for label in labels if label.name == "output"] or labels
    return as_text(_field_value(text[chosen[0].end :], chosen[0], True)) if chosen else ""


def _labels(text: str) -> list[_Label]:
    found = []
    for match in _LABEL.finditer(text):
        lead, sign, name = match["lead"], match["sign"] or match["inner"], match["name"].lower()
        quoted = bool(match["open"] or match["close"])
        begins_line = match.start() == 0 or text[match.start() - 1] == "\n"
        after = text[match.end() : match.end() + 1]
        bare = not sign and match["open"] and match["close"] and after in tuple(_QUOTES)
        heading = not sign and (match["heading"] or match["bold"]) and after in ("", "\n", "\r")
        if sign or bare or heading:
            is_key = quoted or lead.strip()[:1] in tuple("{｛([,，;；") or sign[0:1] == "="
            found.append(_Label(match.start(), match.end(), name, bool(is_key), begins_line))
    return found


def _read(text: str, labels: list[_Label], value: Any) -> Iterator[Reading]:
    inputs = [label for label in labels if label.is_input]
    if not inputs:
        if labels:
            yield ParseFailure.NO_INPUT
        return
    inputs = [label for label in inputs if label.name == "input"] or [
        label for label in inputs if label.name == inputs[0].name
    ]
    ends = [*(label.start for label in inputs[1:]), len(text)]
    for given, end in list(zip(inputs, ends, strict=True))[:_MOST_SAMPLES]:
        outputs = [label for label in labels if not label.is_input and given.end <= label.start < end]
        written = next((label for label in outputs if label.name == "output"), outputs[0] if outputs else None)
        before = [label for label in labels if not label.is_input and label.end <= given.start]
        if written:
            parts = (
                value(text[given.end : written.start], given, False),
                value(text[written.end : end], written, True),
            )
        elif before and len(inputs) == 1:
            parts = (
                value(text[given.end : end], given, True),
                value(text[before[0].end : given.start], before[0], False),
            )
        else:
            yield ParseFailure.NO_OUTPUT
            continue
        yield as_draft({"input": parts[0], "output": parts[1]})


def _field_value(span: str, label: _Label, last: bool) -> Any:
    """The value at a key: ``span`` runs to the next key, or to the end of the text (``last``)."""
    span = span.lstrip().removeprefix("\\")
    if span[:1] and span[0] in _QUOTES:
        other = _AFTER_QUOTED.search(span, 1)
        return _quoted(span[: other.start()] if other else span, last and not other)
    if span[:1] in ("[", "{"):
        found = list(repaired(span))
        return next(iter(found), None) if len(found) == 1 or span[0] == "{" else found
    other = _AFTER_BARE.search(span)
    span, last = (span[: other.start()], False) if other else (span, last)
    if span[:1] == "(":  # Python joins strings that stand side by side
        return "".join(unescaped(part) for part in re.findall(r'"([^"\n]*)"', span))
    span = _until_closed(span) if last else span
    span = span.strip().rstrip(",，;；").rstrip()
    if span[-1:] in tuple(_QUOTES) and sum(span.count(mark) for mark in _QUOTES) % 2:
        span = span[:-1]
    return _BARE_WORDS.get(span.lower(), span)


def _quoted(span: str, last: bool) -> str:
    """The content of a string whose end may be unmarked, or look like its inner quotation marks."""
    marks = next(kind for kind in (_DOUBLE, _SINGLE, _CORNER) if span[0] in kind)
    body = span[: _end_of_object(span, marks)] if last else span
    body = _without_tail(body)
    closed = len(body) > 1 and body[-1] in marks
    opening = len(body) - len(body.lstrip(marks))
    closing = len(body) - len(body.rstrip(marks)) if closed else 0
    if opening == len(body):
        return ""
    # two marks on each side are CSV's, three are Python's; two on one side are one of the content
    around = min(opening, closing, 3)
    if around == 2 and any(mark in body[2:-2] for mark in marks):
        around = 1
    body = body[around : len(body) - around] if closed else body[1:]
    if closed:
        body = body.removesuffix("\\")  # \" of an object that was escaped as a whole
    elif last and body.rstrip("]").endswith(("}", "｝")) and body.count("}") > body.count("{"):
        body = body.rstrip("]")[:-1].rstrip()
    return unescaped(body)


def _end_of_object(span: str, marks: str) -> int:
    """Where the string of an object's last key ends: after the first mark before a bracket that ends the object.

    A bracket is the object's where nothing, a blank line, a fence, a tag or a further object follows; where there is
    none, the first bracket after a mark is taken.
    """
    first = len(span)
    for close in re.finditer(rf"[{marks}]{_BETWEEN}(?:[}}\])｝]|```|~~~|{END_OF_CUT}|\Z)", span[1:]):
        rest = span[1 + close.end() : close.end() + 41].lstrip(" \t}])｝\r,")
        if not rest.strip() or rest.startswith(_AFTER_OBJECT):
            return close.start() + 2
        first = min(first, close.start() + 2)
    return first


def _without_tail(body: str) -> str:
    """Without what stands between a value and the next key: commas, brackets, blanks, a comment."""
    comment = _COMMENT_LAST.search(body[-120:].rstrip())
    if comment:
        body = body[: len(body) - len(body[-120:]) + comment.start()]
    shorter = body
    while True:
        shorter = shorter.rstrip(" \t\r\n\u00a0\u3000,，;；")
        if not shorter.endswith(("\\n", "\\t")):
            break
        shorter = shorter[:-2]
    inner = shorter.rstrip(")]}｝ \n\t,")
    return inner if inner[-1:] in tuple(_QUOTES) else shorter


def _until_closed(span: str) -> str:
    depth = 0
    for sign in re.finditer(r"[{}｛｝]", span):
        depth += 1 if sign[0] in "{｛" else -1
        if depth < 0:
            return span[: sign.start()]
    return span


def _plain_value(span: str, label: _Label, last: bool) -> str:
    """The text after a label: without rules, fences, YAML's marks and the quotation marks around all of it."""
    span = _TOKEN.sub("", span.strip())
    for rule in ("---", "***", "```"):
        if rule != "```" or span.count(rule) % 2:  # the closing fence of a block inside the value is the value's
            span = span.removesuffix(f"\n{rule}").rstrip()
    fence = re.match(r"```\w*\n", span)
    if fence and span.endswith("\n```"):
        span = span[fence.end() : -4]
    block = re.match(r"[|>][+-]?[ \t]*\n", span)
    if block:
        span = textwrap.dedent(span[block.end() :])
    for mark in ('"', "'"):
        if len(span) > 1 and span[0] == span[-1] == mark and mark not in span[1:-1].replace("\\" + mark, ""):
            return unescaped(span[1:-1]) if mark == '"' else span[1:-1].replace("''", "'")
    return span


def _tagged_value(span: str, label: _Label, last: bool) -> str:
    closing = span.lower().rfind(f"</{label.name}>")
    span = (span[:closing] if closing >= 0 else span).strip()
    return span.removeprefix("<![CDATA[").removesuffix("]]>").strip()
