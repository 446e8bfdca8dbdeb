"""Libraries read into passages, one at a time, in an order and with ids that another run finds again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from taskdef.records import Passage, PassageSource
from taskdef.retrieve.documents import DocumentConverter
from taskdef.retrieve.duplicates import TextHashes
from taskdef.retrieve.files import FileKind, LibraryFile, library_files
from taskdef.retrieve.hub_dataset import hub_rows
from taskdef.retrieve.passages import Block, Piece, count_words, cut_passages
from taskdef.retrieve.plain_text import text_blocks, text_file_blocks, tidy
from taskdef.retrieve.rows import Row, arrow_rows, json_lines, parquet_rows
from taskdef.retrieve.skips import FileSkipped, SkipLog, SkipReason

_ROW_READERS = {FileKind.JSON_LINES: json_lines, FileKind.PARQUET: parquet_rows, FileKind.ARROW: arrow_rows}


def iter_passages(source: PassageSource, skipped: SkipLog) -> Iterator[Passage]:
    """The passages of a library, file by file in the order of ``library_files``, in flat memory.

    A text equal to an earlier one is skipped. Raises LibraryError where the library does not exist or cannot be read at
    all.
    """
    seen = TextHashes()
    with DocumentConverter() as converter:
        for file in library_files(source, skipped):
            yield from iter_file_passages(file, source, skipped, seen=seen, converter=converter)


def iter_file_passages(
    file: LibraryFile,
    source: PassageSource,
    skipped: SkipLog,
    *,
    seen: TextHashes | None = None,
    converter: DocumentConverter | None = None,
) -> Iterator[Passage]:
    """The passages of one file; what is unreadable in it, or all of it, goes to ``skipped``.

    Ids are ``name#position``, ``name#row`` for rows and ``name#row.part`` for rows that are cut. Texts equal to one in
    ``seen`` (without it, to one of this file) are skipped. A ``converter`` that several files share saves the start of
    its process. Raises LibraryError for a data set that cannot be loaded.
    """
    seen = TextHashes() if seen is None else seen
    with ExitStack() as stack:
        converter = converter or stack.enter_context(DocumentConverter())
        found = False
        try:
            for position, piece in _pieces(file, source, skipped, converter):
                found = True
                place = f"{file.shown}:{piece.place}"
                if seen.add(piece.text):
                    yield Passage(id=f"{file.name}#{position}", text=piece.text, source=place)
                else:
                    skipped.add(place, SkipReason.DUPLICATE, "same text as an earlier passage")
        except FileSkipped as error:
            skipped.add(file.shown, error.reason, error.why)
        except OSError as error:
            skipped.add(file.shown, SkipReason.UNREADABLE, f"cannot be read: {error.strerror or error}")
        else:
            if not found and file.kind is FileKind.TEXT:
                skipped.add(file.shown, SkipReason.EMPTY, "empty")


def _pieces(
    file: LibraryFile, source: PassageSource, skipped: SkipLog, converter: DocumentConverter
) -> Iterator[tuple[str, Piece]]:
    """Positions, which are stable, and pieces."""
    if file.path is None:
        yield from _row_pieces(hub_rows(source), file, source, skipped)
    elif reader := _ROW_READERS.get(file.kind):
        yield from _row_pieces(reader(file.path, source.text_field), file, source, skipped)
    elif file.kind is FileKind.TEXT:
        yield from _numbered(text_file_blocks(file.path), source)
    else:
        notes: list[tuple[str, str]] = []
        yield from _numbered(converter.blocks(file.path, file.kind, notes), source)
        for place, why in notes:
            skipped.add(f"{file.shown}:{place}", SkipReason.BROKEN, why)


def _numbered(blocks: Iterator[Block], source: PassageSource) -> Iterator[tuple[str, Piece]]:
    pieces = cut_passages(blocks, source.passage_words, source.overlap_words)
    return ((str(position), piece) for position, piece in enumerate(pieces, start=1))


def _row_pieces(
    rows: Iterator[Row], file: LibraryFile, source: PassageSource, skipped: SkipLog
) -> Iterator[tuple[str, Piece]]:
    found = False
    for row in rows:
        found = True
        place = str(row.number)
        if row.reason:
            skipped.add(f"{file.shown}:{place}", row.reason, row.why)
            continue
        text = tidy(row.text).strip()
        # A row is a passage as it is where that is not much too long; the slack is what cutting would leave over.
        if count_words(text) <= source.passage_words * 5 // 4:
            yield place, Piece(text, place)
            continue
        pieces = cut_passages(text_blocks(text), source.passage_words, source.overlap_words)
        for part, piece in enumerate(pieces, start=1):
            yield f"{place}.{part}", Piece(piece.text, place)
    if not found:
        skipped.add(file.shown, SkipReason.EMPTY, "empty")
