"""Plain text and Markdown, read as a stream of paragraphs: no line and no paragraph is too long for memory."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from taskdef.retrieve.encodings import detect_encoding
from taskdef.retrieve.passages import SENTENCE_END, Block
from taskdef.unicode import clean_unicode

BLOCK_CHARACTERS = 1 << 16
"""Longer paragraphs come in several blocks."""

_HEADING = re.compile(r"#{1,6}\s+\S")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def tidy(text: str) -> str:
    """Text that can be written, shown and sent: no half surrogates, and blanks for control characters."""
    return _CONTROLS.sub(" ", text if text.isascii() else clean_unicode(text))


def text_file_blocks(path: Path) -> Iterator[Block]:
    """The paragraphs and headings of a text file, placed by line. Raises FileSkipped, OSError."""
    encoding = detect_encoding(path)
    with path.open(encoding=encoding, errors="replace") as file:
        yield from stream_blocks(file)


def text_blocks(text: str) -> Iterator[Block]:
    """The paragraphs and headings of a text in memory."""
    return stream_blocks(io.StringIO(text, newline=None))


def stream_blocks(file: TextIO) -> Iterator[Block]:
    """Paragraphs end at blank lines; a Markdown heading outside fenced code is a block of its own."""
    lines: list[str] = []
    size = begin = number = 0
    line_begins, fenced = True, False
    while line := file.readline(BLOCK_CHARACTERS):
        whole_line_begins, line_begins = line_begins, line.endswith("\n")
        number += whole_line_begins
        if whole_line_begins and _FENCE.match(line):
            fenced = not fenced
        heading = whole_line_begins and not fenced and _HEADING.match(line) is not None
        if lines and (heading or (whole_line_begins and not line.strip())):
            yield Block(tidy("".join(lines)).strip(), str(begin))
            lines, size = [], 0
        if heading:
            yield Block(tidy(line).strip(), str(number), heading=True)
        elif lines or line.strip():
            begin = begin if lines else number
            lines.append(line)
            size += len(line)
        if size >= BLOCK_CHARACTERS:
            text = "".join(lines)
            end = _cut_at(text)
            yield Block(tidy(text[:end]).strip(), str(begin))
            lines, size, begin = [text[end:]], len(text) - end, number
    if lines:
        yield Block(tidy("".join(lines)).strip(), str(begin))


def bounded_parts(text: str) -> Iterator[str]:
    """A text of any length in parts of at most BLOCK_CHARACTERS."""
    start = 0
    while len(text) - start > BLOCK_CHARACTERS:
        end = start + _cut_at(text[start : start + BLOCK_CHARACTERS])
        yield text[start:end]
        start = end
    yield text[start:]


def _cut_at(text: str) -> int:
    """Where to cut a paragraph that goes on: after its last whole sentence, else its last whole word."""
    last = text[-4096:]
    offset = len(text) - len(last)
    if sentences := list(SENTENCE_END.finditer(last)):
        return offset + sentences[-1].end()
    blank = max(last.rfind(" "), last.rfind("\n"), last.rfind("\t"))
    return offset + blank + 1 if blank >= 0 else len(text)
