"""A response as steps: runs of whole tokens that rejoin to the exact text.

The text says where a step may end, the tokens say where it can: a policy goes on from tokens, and a prefix that is
cut inside one is a prefix that it would never write. A text is never tokenized anew here, for a tokenizer may well
give other tokens than those that were sampled.

A gap between steps is a stretch of text (line break, blank after a sentence). The cut goes to the last token boundary
inside the gap; where a token reaches over all of it, to the end of that token. Whether a gap is one depends on what
stands before it and beside it only, so the steps of a prefix are the first steps of the whole. Formulas stay whole.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from taskdef.errors import BaseModelError

LINES = re.compile(r"\n\s*")
"""A step a line."""
SENTENCES = re.compile(r"\n\s*|(?<=[.!?])[ \t]+(?=\S)|(?<=[.!?][\"')\]])[ \t]+(?=\S)")
"""A step a sentence; a line break ends one too."""

_FORMULA = re.compile(
    r"\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\)|\\begin\{(\w+\*?)\}.*?\\end\{\1\}"
    # a single dollar opens a formula where no blank follows, and closes it where none precedes and no digit follows:
    # so two prices in a sentence are none
    r"|(?<![\\$])\$(?=[^\s$])[^\n$]*(?<=[^\s\\$])\$(?![\d$])",
    re.DOTALL,
)
_UNFINISHED = "\ufffd"
"""What stands for the bytes of a character that is not complete."""
_LIST_NUMBER = re.compile(r"\s*\d+\.")


@dataclass(frozen=True)
class Step:
    """Tokens ``start`` to ``end`` (end not included) of a response."""

    start: int
    end: int
    text: str
    """What these tokens add to the text; the stop token of a last step adds none."""


def split_steps(
    ids: Sequence[int],
    decode: Callable[[list[int]], str],
    *,
    gap: re.Pattern[str] = SENTENCES,
    most: int = 32,
) -> list[Step]:
    """Steps of a response, in order: none is empty or blank, and a stop token belongs to the last.

    ``decode`` gives the text of tokens without special ones. ``gap`` matches what may stand between two steps; a match
    may be empty. The last of ``most`` steps takes all that is left. A response without text has no steps. Raises
    BaseModelError where the text of some first tokens is not what the whole begins with: then no cut is sure to rejoin.
    """
    texts = _PrefixTexts(ids, decode)
    text = texts.whole
    if not text.strip():
        return []
    ends: list[int] = []
    for first, last in _gaps(text, gap):
        start = ends[-1] if ends else 0
        end = texts.cut(first, last)
        if not start < end < len(ids) or len(ends) == most - 1:
            continue
        written = len(texts.at(end))
        if text[len(texts.at(start)) : written].strip() and text[written:].strip():
            ends.append(end)
    ends.append(len(ids))
    starts = [0, *ends[:-1]]
    return [
        Step(start, end, text[len(texts.at(start)) : len(texts.at(end))])
        for start, end in zip(starts, ends, strict=True)
    ]


def first_step_after(steps: Sequence[Step], place: int) -> Step:
    """What a response does next after its first ``place`` tokens, as one step up to the next cut.

    Raises ValueError where the response ends there.
    """
    for step in steps:
        if step.end > place:
            return step
    raise ValueError(f"the response has no token after its first {place}")


class _PrefixTexts:
    """Texts of a response's first tokens, decoded where asked for: all of them would take quadratic time."""

    def __init__(self, ids: Sequence[int], decode: Callable[[list[int]], str]) -> None:
        self._ids = list(ids)
        self._decode = decode
        self._known: dict[int, str] = {0: ""}
        self.whole = self.at(len(self._ids))

    def at(self, count: int) -> str:
        if count not in self._known:
            self._known[count] = self._decode(self._ids[:count])
        return self._known[count]

    def cut(self, first: int, last: int) -> int:
        """Number of tokens before the cut for a gap from character ``first`` to ``last``."""
        places = range(len(self._ids) + 1)
        before = bisect_right(places, last, key=lambda count: len(self.at(count))) - 1
        while before > 0 and len(self.at(before)) >= first and not self._is_clean(before):
            before -= 1
        if before > 0 and len(self.at(before)) >= first and self._is_clean(before):
            return before
        return next(
            count for count in places if len(self.at(count)) > last and (self._is_clean(count) or count == places[-1])
        )

    def _is_clean(self, count: int) -> bool:
        """Whether the response's text begins with the text of its first ``count`` tokens."""
        text = self.at(count)
        if self.whole.startswith(text):
            return True
        if text.endswith(_UNFINISHED) and self.whole.startswith(text.rstrip(_UNFINISHED)):
            return False  # the tokens end inside a character
        raise BaseModelError(
            f"the first {count} of a response's {len(self._ids)} tokens read {text[-40:]!r} at their end, where the "
            f"response reads {self.whole[: len(text)][-40:]!r}: this tokenizer's texts cannot be cut into steps",
            next_step="--set train.method=dpo, which needs no steps",
        )


def _gaps(text: str, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    formulas = [match.span() for match in _FORMULA.finditer(text)]
    for match in gap.finditer(text):
        first, last = match.span()
        in_formula = any(start < first < end or start < last < end for start, end in formulas)
        line = text[text.rfind("\n", 0, first) + 1 : first]
        if not in_formula and not (text[first:last].strip("\n") and _LIST_NUMBER.fullmatch(line)):
            yield first, last
