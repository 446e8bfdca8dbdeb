"""Where a response's thinking ends and its answer begins."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAG = re.compile(r"[<\[◁](?P<closing>/?)(?:think|thinking|thought|reasoning|scratchpad)[>\]▷]", re.IGNORECASE)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s{0,9}final\s{0,9}(?:<\|[^|<>]{1,40}\|>[^<]{0,40}){0,2}<\|message\|>")
_CONTENT = re.compile(
    r"[{｛]\s{0,99}[\"'“‘「]|<input\b|^\W{0,9}(?:input|question|problem|输入|问题)\W{0,4}[:：]",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Response:
    """A response without its thinking."""

    text: str
    """What follows the thinking. Where the thinking never ends, all of the response."""
    unclosed: bool = False
    """The thinking never ends: what looks like an answer may be a thought, unless the text ends with it."""
    thought: bool = False
    """There was thinking."""


def without_thinking(text: str) -> Response:
    """Cut leading thinking off. One pass.

    Tags inside the answer are content (a task's outputs may well be ``<think>…</think><answer>B</answer>``), so
    nothing is cut once an object or a labelled input has begun outside the thinking. A closing tag without an opening
    one ends thinking all the same: many chat templates put the opening tag into the prompt.
    """
    channels = list(_FINAL_CHANNEL.finditer(text))
    if channels:
        return Response(text[channels[-1].end() :], thought=True)
    depth = answer = last_closing = 0
    thought = False
    for tag in _TAG.finditer(text):
        if depth == 0 and _CONTENT.search(text, answer, tag.start()):
            break
        thought = True
        if tag["closing"]:
            depth = max(0, depth - 1)
            last_closing = tag.end()
            if depth == 0:
                answer = last_closing
        else:
            depth += 1
    if depth and last_closing:  # the thinking names the tag itself
        return Response(text[last_closing:], thought=True)
    return Response(text if depth else text[answer:], unclosed=depth > 0, thought=thought)
