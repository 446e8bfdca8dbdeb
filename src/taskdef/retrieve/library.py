"""Libraries: JSON lines and plain text on disk, read into passages. What cannot be read is skipped, named, counted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskdef.errors import LibraryError
from taskdef.records import Passage, PassageSource
from taskdef.unicode import clean_unicode

JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})
TEXT_SUFFIXES = frozenset({".txt", ".md"})
PASSAGE_WORDS = 200
"""Paragraphs of a text file are joined up to about this many words; longer ones are cut at sentence ends."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Skipped:
    """Something in a library that gave no passage."""

    what: str
    """File, and line where it is one."""
    why: str


@dataclass(frozen=True)
class Library:
    """What one source came to."""

    source: str
    passages: tuple[Passage, ...]
    skipped: tuple[Skipped, ...]


def read_libraries(sources: tuple[PassageSource, ...]) -> list[Library]:
    """Read every source. Ids are ``file#position``, led by the source's number where there are several.

    A text that occurred before, in any source, is skipped. Raises LibraryError where a path is missing, is no kind of
    library, or all sources together hold no passage.
    """
    seen: dict[str, str] = {}
    libraries = []
    for number, source in enumerate(sources, start=1):
        prefix = f"{number}/" if len(sources) > 1 else ""
        libraries.append(_read_library(source, prefix, seen))
    if libraries and not any(library.passages for library in libraries):
        first = next((skipped for library in libraries for skipped in library.skipped), None)
        why = f"; {first.what}: {first.why}" if first else ""
        raise LibraryError(
            f"{', '.join(library.source for library in libraries)}: no passages{why}",
            next_step="give JSON lines with a text field (`text_field`), or .txt or .md files with text in them",
        )
    return libraries


def _read_library(source: PassageSource, prefix: str, seen: dict[str, str]) -> Library:
    passages: list[Passage] = []
    skipped: list[Skipped] = []
    for path in _files(source.path, skipped):
        name = path.relative_to(source.path.parent).as_posix()
        inside = path.relative_to(source.path).as_posix() if source.path.is_dir() else path.name
        try:
            content = path.read_bytes()
        except OSError as error:
            skipped.append(Skipped(name, f"cannot be read: {error.strerror}"))
            continue
        texts = _json_lines(content, source.text_field) if path.suffix in JSONL_SUFFIXES else _text_parts(content)
        for position, text, fault in texts:
            where = f"{name}:{position}" if position else name
            if fault:
                skipped.append(Skipped(where, fault))
            elif text in seen:
                skipped.append(Skipped(where, f"same text as {seen[text]}"))
            else:
                seen[text] = where
                passages.append(Passage(id=f"{prefix}{inside}#{position}", text=text, source=where))
    return Library(str(source.path), tuple(passages), tuple(skipped))


def _files(path: Path, skipped: list[Skipped]) -> list[Path]:
    known = JSONL_SUFFIXES | TEXT_SUFFIXES
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        for file in files:
            if file.suffix not in known:
                kinds = ", ".join(sorted(known))
                skipped.append(Skipped(file.relative_to(path.parent).as_posix(), f"not one of {kinds}"))
        return [file for file in files if file.suffix in known]
    if not path.exists():
        raise LibraryError(
            f"{path}: no such passage library", next_step="correct `passages` in the task definition (taskdef check)"
        )
    if path.suffix not in known:
        raise LibraryError(
            f"{path}: {path.suffix or 'a file without a suffix'} is no kind of passage library",
            next_step=f"give a file that ends in one of {', '.join(sorted(known))}, or a folder of them",
        )
    return [path]


def _json_lines(content: bytes, text_field: str) -> Iterator[tuple[int, str, str]]:
    """Line number, text, fault (empty where there is a text)."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            yield number, "", "not UTF-8"
            continue
        except (ValueError, RecursionError):
            yield number, "", "not JSON"
            continue
        text = row.get(text_field) if isinstance(row, dict) else None
        if isinstance(text, str) and text.strip():
            yield number, clean_unicode(text).strip(), ""
        elif isinstance(row, dict) and text_field not in row:
            yield number, "", f"no field {text_field!r} (it has {', '.join(map(str, list(row)[:8])) or 'none'})"
        else:
            yield number, "", f"{text_field!r} holds no text"


def _text_parts(content: bytes) -> Iterator[tuple[int, str, str]]:
    """Position of the passage in the file (from 1), text, fault."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield 0, "", "not UTF-8"
        return
    parts = list(group_paragraphs(text))
    if not parts:
        yield 0, "", "empty"
    for position, part in enumerate(parts, start=1):
        yield position, part, ""


def group_paragraphs(text: str, words: int = PASSAGE_WORDS) -> Iterator[str]:
    """Join neighbouring paragraphs to passages of up to ``words`` words; a Markdown heading begins a new one."""
    group: list[str] = []
    count = 0
    for piece in _pieces(text, words):
        size = len(piece.split())
        if group and (count + size > words or piece.startswith("#")):
            yield "\n\n".join(group)
            group, count = [], 0
        group.append(piece)
        count += size
    if group:
        yield "\n\n".join(group)


def _pieces(text: str, words: int) -> Iterator[str]:
    """Paragraphs; those that are too long as runs of sentences, and sentences that are too long as runs of words."""
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        if len(paragraph.split()) <= words:
            if paragraph.strip():
                yield paragraph.strip()
            continue
        run: list[str] = []
        for sentence in _SENTENCE_END.split(paragraph):
            tokens = sentence.split()
            if run and len(run) + len(tokens) > words:
                yield " ".join(run)
                run = []
            run += tokens
            while len(run) > words:
                yield " ".join(run[:words])
                run = run[words:]
        if run:
            yield " ".join(run)
