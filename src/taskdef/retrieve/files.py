"""Which files of a library are read, in which order, and which are not and why."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from taskdef.errors import LibraryError
from taskdef.records import PassageSource
from taskdef.retrieve.documents import INSTALL, have_converters
from taskdef.retrieve.hub_dataset import hub_revision
from taskdef.retrieve.skips import SkipLog, SkipReason


class FileKind(StrEnum):
    """How a file is read."""

    JSON_LINES = "json_lines"
    """One row a line, a text in one of its fields."""
    PARQUET = "parquet"
    """The same as a table."""
    ARROW = "arrow"
    """The same as `datasets` saves it to disk."""
    TEXT = "text"
    """Plain text or Markdown."""
    HTML = "html"
    """A web page."""
    PDF = "pdf"
    """Needs the extra `documents`."""
    DOCX = "docx"
    """Needs the extra `documents`."""
    HUB = "hub"
    """A data set, by its id on the hub or its folder."""


KINDS = {
    ".arrow": FileKind.ARROW,
    ".docx": FileKind.DOCX,
    ".htm": FileKind.HTML,
    ".html": FileKind.HTML,
    ".jsonl": FileKind.JSON_LINES,
    ".markdown": FileKind.TEXT,
    ".md": FileKind.TEXT,
    ".ndjson": FileKind.JSON_LINES,
    ".parquet": FileKind.PARQUET,
    ".pdf": FileKind.PDF,
    ".txt": FileKind.TEXT,
    ".xhtml": FileKind.HTML,
}
"""Suffix, in lower case -> kind."""
_CONVERTED = frozenset((FileKind.PDF, FileKind.DOCX))
_NAMED_IN_A_LINE = 5


@dataclass(frozen=True)
class LibraryFile:
    """A file of a library, or a data set as a whole."""

    name: str
    """Relative to the library's folder; ids of passages begin with it."""
    shown: str
    """The name with the library's own before it, for messages and a passage's source."""
    kind: FileKind
    path: Path | None
    """None for a data set."""
    version: str
    """Another one means other content: modification time and size, or the data set's revision."""


def library_files(source: PassageSource, skipped: SkipLog | None = None) -> list[LibraryFile]:
    """The files of a library in the order in which they are read: by name, folder by folder.

    Names that begin with a dot are not looked at. Symbolic links are followed, but for those into a folder that is
    read anyway. What is not read goes to ``skipped``. Raises LibraryError where the library does not exist or is a
    single file of no known kind.
    """
    skipped = SkipLog() if skipped is None else skipped
    if source.hub is not None:
        name = source.hub if source.subset is None else f"{source.hub} ({source.subset})"
        shown = f"{name}, {source.split}"
        return [LibraryFile(f"{source.split}", shown, FileKind.HUB, None, hub_revision(source))]
    root = source.path
    if root is None:
        raise LibraryError(
            "a passage library without a place",
            next_step="give `path` or `hub` under `passages` in the task definition",
        )
    if root.is_dir():
        found = _Walk(root, skipped)
        files = [file for path in found.paths() if (file := _library_file(path, root, skipped)) is not None]
    else:
        files = [_single_file(root)]
    return _without_converter(files, root, skipped)


def _single_file(path: Path) -> LibraryFile:
    if not os.path.lexists(path):
        raise LibraryError(
            f"{path}: no such passage library", next_step="correct `passages` in the task definition (taskdef check)"
        )
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise LibraryError(
            f"{path}: {path.suffix or 'a file without a suffix'} is no kind of passage library",
            next_step=f"give a file that ends in one of {', '.join(KINDS)}, or a folder of them",
        )
    try:
        status = path.stat()
    except OSError as error:
        raise LibraryError(
            f"{path}: cannot be read: {error.strerror}", next_step="correct the link, or its permissions"
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise LibraryError(f"{path}: is neither a file nor a folder", next_step="give a file, or a folder of files")
    name = _shown(path.name)
    return LibraryFile(name, name, kind, path, _version(status))


def _library_file(path: Path, root: Path, skipped: SkipLog) -> LibraryFile | None:
    name = _shown(path.relative_to(root).as_posix())
    shown = f"{_shown(root.name)}/{name}"
    try:
        status = path.stat()
    except OSError as error:
        looping = error.errno == errno.ELOOP
        reason = SkipReason.LINK_LOOP if looping else SkipReason.UNREADABLE
        why = "a symbolic link to itself" if looping else f"cannot be read: {error.strerror}"
        skipped.add(shown, reason, why)
        return None
    if not stat.S_ISREG(status.st_mode):
        skipped.add(shown, SkipReason.NOT_A_FILE, "a pipe, socket or device")
        return None
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        skipped.add(shown, SkipReason.UNKNOWN_KIND, f"not one of {', '.join(KINDS)}")
        return None
    return LibraryFile(name, shown, kind, path, _version(status))


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}"


def _shown(name: str) -> str:
    """A name that any file can hold; bytes that are no UTF-8 are spelled out, so that names stay apart."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _without_converter(files: list[LibraryFile], root: Path, skipped: SkipLog) -> list[LibraryFile]:
    needing = [file for file in files if file.kind in _CONVERTED]
    if not needing or have_converters():
        return files
    names = ", ".join(file.shown for file in needing[:_NAMED_IN_A_LINE])
    more = f" and {len(needing) - _NAMED_IN_A_LINE:,} more" if len(needing) > _NAMED_IN_A_LINE else ""
    why = f"{names}{more}: PDF and Word files are read with an extra: {INSTALL}"
    skipped.add(_shown(root.name), SkipReason.NO_CONVERTER, why, count=len(needing))
    return [file for file in files if file.kind not in _CONVERTED]


class _Walk:
    """Goes through a folder once, whatever symbolic links lie in it."""

    def __init__(self, root: Path, skipped: SkipLog) -> None:
        self._root = root
        self._skipped = skipped
        self._entered = [root.resolve()]
        """The real folders whose whole content is read."""

    def paths(self) -> Iterator[Path]:
        """Everything that is no folder."""
        yield from self._within(self._root)

    def _within(self, folder: Path) -> Iterator[Path]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._skip(folder, SkipReason.UNREADABLE, f"cannot be read: {error.strerror}")
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if not _is_folder(path):
                yield path
            elif not entry.is_symlink() or self._enter(path):
                yield from self._within(path)

    def _enter(self, link: Path) -> bool:
        target = link.resolve()
        if any(target.is_relative_to(real) or real.is_relative_to(target) for real in self._entered):
            self._skip(link, SkipReason.LINK_LOOP, "a symbolic link into a folder that is read anyway")
            return False
        self._entered.append(target)
        return True

    def _skip(self, path: Path, reason: SkipReason, why: str) -> None:
        name = _shown(self._root.name)
        inside = _shown(path.relative_to(self._root).as_posix())
        self._skipped.add(name if inside == "." else f"{name}/{inside}", reason, why)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:  # a link to nothing or to itself: named where files are looked at
        return False
