"""Cutting text into passages at the ends of paragraphs and sentences, one passage in memory at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

RUN_CHARACTERS = 20
"""An unbroken run counts as one more word for each of these: addresses and base64 do not make endless passages."""

SENTENCE_END = re.compile(
    "[.!?\u2026][\"'\u201d\u2019)\\]]?\\s+"  # \u2026 is the ellipsis; a closing quotation mark or bracket may follow
    "|[\u3002\uff01\uff1f]\\s*"  # the Chinese and Japanese marks, which no blank follows
)
"""The end of a sentence with the white space after it."""
_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")


@dataclass(frozen=True)
class Block:
    """A paragraph, a heading, or a part of a very long paragraph."""

    text: str
    place: str
    """Where it begins in its file: a line, a row, a page."""
    heading: bool = False


@dataclass(frozen=True)
class Piece:
    """The text of one passage."""

    text: str
    place: str
    """Where it begins, an overlap not counted."""


def count_words(text: str) -> int:
    """Words as passages are measured: runs between white space, and every character of Chinese or Japanese."""
    single = 0
    if not text.isascii() and (single := len(_CJK.findall(text))):
        text = _CJK.sub(" ", text)
    runs = text.split()
    count = single + len(runs)
    if max(map(len, runs), default=0) > RUN_CHARACTERS:
        count += sum(len(run) // RUN_CHARACTERS for run in runs)
    return count


def cut_passages(blocks: Iterable[Block], words: int, overlap: int = 0) -> Iterator[Piece]:
    """Join neighbouring blocks to passages of up to ``words`` words.

    A heading begins a new passage and stays with what follows it. Blocks longer than ``words - overlap`` are cut at
    sentence ends, sentences longer than that between words. With ``overlap`` a passage begins with the last whole
    sentences, up to that many words, of the one before it in the same section. What is left at the end of a section
    and is shorter than a quarter of ``words`` joins the passage before it, which is then longer than ``words``.
    """
    held: _Group | None = None
    group = _Group()
    for unit in _units(blocks, words - overlap):
        if group.units and unit.heading and not group.only_headings:
            yield from _close_section(held, group, words // 4)
            held, group = None, _Group()
        elif group.units and group.words + unit.words > words and not (group.only_headings and group.words < words):
            if held:
                yield held.piece()
            held, group = group, _Group.after(group, overlap)
        group.add(unit)
    if group.units:
        yield from _close_section(held, group, words // 4)


@dataclass(frozen=True)
class _Unit:
    """What is never cut further."""

    text: str
    words: int
    place: str
    heading: bool
    joint: str
    """What stands before it where it is not the first."""


@dataclass
class _Group:
    """The units of one passage."""

    units: list[_Unit] = field(default_factory=list)
    overlap: str = ""
    words: int = 0
    """The overlap's included."""
    own_words: int = 0
    only_headings: bool = True

    @classmethod
    def after(cls, group: _Group, overlap: int) -> _Group:
        shared = _last_sentences(group.units, overlap)
        return cls(overlap=shared, words=count_words(shared), only_headings=False)

    def add(self, unit: _Unit) -> None:
        self.units.append(unit)
        self.words += unit.words
        self.own_words += unit.words
        self.only_headings = self.only_headings and unit.heading

    def piece(self) -> Piece:
        text = self.units[0].text + "".join(unit.joint + unit.text for unit in self.units[1:])
        return Piece(self.overlap + self.units[0].joint + text if self.overlap else text, self.units[0].place)


def _close_section(held: _Group | None, group: _Group, least: int) -> Iterator[Piece]:
    if held and group.own_words < least:
        held.units += group.units
        yield held.piece()
        return
    if held:
        yield held.piece()
    yield group.piece()


def _last_sentences(units: list[_Unit], words: int) -> str:
    chosen: list[str] = []
    left = words
    for unit in reversed(units):
        for sentence in reversed(_sentences(unit.text)):
            left -= count_words(sentence)
            if left < 0:
                return " ".join(reversed(chosen))
            chosen.append(sentence)
    return " ".join(reversed(chosen))


def _units(blocks: Iterable[Block], limit: int) -> Iterator[_Unit]:
    for block in blocks:
        text = block.text.strip()
        words = count_words(text)
        if not words:
            continue
        if words <= limit:
            yield _Unit(text, words, block.place, block.heading, "\n\n")
            continue
        joint = "\n\n"
        for part, size in _parts(text, limit):
            yield _Unit(part, size, block.place, block.heading, joint)
            joint = " "


def _sentences(text: str) -> list[str]:
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    parts = [text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [part for part in parts if part]


def _parts(text: str, limit: int) -> Iterator[tuple[str, int]]:
    """Sentences on one line each, with their words; those that are too long as runs of words."""
    for sentence in _sentences(text):
        words = count_words(sentence)
        if words <= limit:
            yield " ".join(sentence.split()), words
            continue
        plain = sentence.split()
        if words == len(plain):  # no word counts for more than one, so every slice is as long as wanted
            for start in range(0, words, limit):
                run = plain[start : start + limit]
                yield " ".join(run), len(run)
            continue
        run, count = [], 0
        for word in _breakable(sentence, limit):
            size = count_words(word)
            if run and count + size > limit:
                yield " ".join(run), count
                run, count = [], 0
            run.append(word)
            count += size
        yield " ".join(run), count


def _breakable(sentence: str, limit: int) -> Iterator[str]:
    """The sentence's words, an unbroken run that is no word as slices of it."""
    for word in sentence.split():
        if count_words(word) <= limit:
            yield word
            continue
        # Chinese and Japanese count by the character, anything else by the run of characters.
        size = limit if _CJK.search(word) else max(1, limit - 1) * RUN_CHARACTERS
        yield from (word[start : start + size] for start in range(0, len(word), size))
