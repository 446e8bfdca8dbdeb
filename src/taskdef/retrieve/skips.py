"""What a library holds and gives no passage: counted by reason, and named as far as a person would read on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

NAMED = 1000
"""Things that are named for each reason; beyond it they are counted only, so that memory stays flat."""


class SkipReason(StrEnum):
    """Why something in a library gave no passage."""

    UNKNOWN_KIND = "unknown_kind"
    """The file's name ends in nothing that is read."""
    NO_CONVERTER = "no_converter"
    """Its kind needs the extra `documents`, which is not installed."""
    UNREADABLE = "unreadable"
    """The system does not open or read it."""
    NOT_A_FILE = "not_a_file"
    """A pipe, socket or device, which reading could wait on for ever."""
    LINK_LOOP = "link_loop"
    """A symbolic link to itself, or into a folder that is read anyway."""
    EMPTY = "empty"
    """Nothing but white space."""
    BINARY = "binary"
    """The suffix says text, and the bytes are none."""
    UNKNOWN_ENCODING = "unknown_encoding"
    """Neither UTF-8 nor any encoding that was detected."""
    TOO_LARGE = "too_large"
    """Larger, packed or unpacked, than is given to a converter."""
    BROKEN = "broken"
    """Damaged, or not what the suffix says; or a part of it is."""
    ENCRYPTED = "encrypted"
    """It opens with a password only."""
    TOO_MUCH_MEMORY = "too_much_memory"
    """Its conversion reached the limit on memory, or on the text that may come of it."""
    TOO_SLOW = "too_slow"
    """Its conversion reached the time limit."""
    CRASHED = "crashed"
    """Its conversion ended its process."""
    LINE_TOO_LONG = "line_too_long"
    """A line of JSON lines, or a row's text, beyond the limit."""
    NOT_UTF8 = "not_utf8"
    """A line that breaks the encoding of its file."""
    NOT_JSON = "not_json"
    """A line that is no JSON."""
    NO_FIELD = "no_field"
    """A row or a table without the field that holds the text."""
    NO_TEXT = "no_text"
    """The field, or the document, holds no text."""
    DUPLICATE = "duplicate"
    """Word for word the text of an earlier passage."""


@dataclass(frozen=True)
class Skipped:
    """Something in a library that gave no passage."""

    what: str
    """File, and line, row or page where it is a part of one."""
    why: str
    reason: SkipReason


class FileSkipped(Exception):
    """A file that gives no passages (any more), and why. Raised by readers, noted by whoever asked them."""

    def __init__(self, reason: SkipReason, why: str) -> None:
        super().__init__(why)
        self.reason = reason
        self.why = why


class SkipLog:
    """Counts everything that is skipped and names the first ``keep`` for each reason."""

    def __init__(self, keep: int = NAMED) -> None:
        self._keep = keep
        self.counts: Counter[SkipReason] = Counter()
        self.named: list[Skipped] = []
        self._named: Counter[SkipReason] = Counter()

    def add(self, what: str, reason: SkipReason, why: str, *, count: int = 1) -> None:
        """Note one thing, or ``count`` things in one line."""
        self.counts[reason] += count
        if self._named[reason] < self._keep:
            self._named[reason] += 1
            self.named.append(Skipped(what, why, reason))

    @property
    def total(self) -> int:
        """All that was skipped, named or not."""
        return self.counts.total()

    def lines(self) -> Iterator[str]:
        """One line for each thing named, then one for each reason with more than was named."""
        named: Counter[SkipReason] = Counter()
        for skipped in self.named:
            named[skipped.reason] += 1
            yield f"{skipped.what}: {skipped.why}"
        for reason, count in self.counts.items():
            if named[reason] == self._keep and count > self._keep:
                yield f"… {count - self._keep:,} more: {reason.value.replace('_', ' ')}"
