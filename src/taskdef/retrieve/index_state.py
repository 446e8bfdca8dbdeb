"""What an index holds and how far it has come: state.json in its folder, replaced whole at every step.

The state names parts; a part that it does not name does not exist. So a kill at any moment leaves the last state and
the parts it names, which are never changed, and at worst files that the next start removes.

A part's passages belong to files of the library in *runs*. A file that was removed or changed keeps no run; its
passages then still lie in their part and are passed over. How many passages a file has is noted once it was read to
its end. So which passages are missing, after a kill or after the loss of a part, is the difference of the two.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

STATE = "state.json"
PARTS = "parts"
"""The folder of the parts, each a folder in it."""
VERSION = 1
"""Of everything on disk. An index of another version is built again."""


@dataclass
class FileState:
    """A file of the library that has been read, or begun."""

    stamp: str
    """Tells one content of the file from another: size and time of change, or a data set's fingerprint."""
    passages: int | None = None
    """None until it was read to its end."""
    notes: Any = None
    """What its reader noted, as JSON: what was skipped, and why."""


@dataclass
class Run:
    """Neighbouring passages of one file that lie side by side in one part."""

    file: str
    first: int
    """The first one's position in the file, from 0."""
    start: int
    """Its number in the part."""
    count: int


@dataclass
class PartState:
    """A part that is on disk, whole."""

    name: str
    passages: int
    """All that lie in it, also those that no run names."""
    sizes: dict[str, int]
    """Of its files, in bytes: a part whose files have other sizes is taken as lost."""
    runs: list[Run]

    @property
    def owned(self) -> int:
        """Passages that belong to a file of the library."""
        return sum(run.count for run in self.runs)


@dataclass
class IndexState:
    """The content of state.json."""

    analysis: dict[str, Any]
    files: dict[str, FileState] = field(default_factory=dict)
    """In the library's order, which decides among passages with equal scores."""
    parts: list[PartState] = field(default_factory=list)
    complete: bool = False
    """Whether the library was read to its end and the fields below were worked out."""
    alive: str | None = None
    """The file with one byte a passage, part after part: 1 where it is searched. None where all are."""
    passages: int = 0
    """Searched passages: of files in the library, each text once."""
    terms: int = 0
    """Their lengths added up."""
    duplicates: int = 0
    """Passages left out because an earlier one has the same text."""
    repeated: list[str] = field(default_factory=list)
    """The sources of the first of them."""

    def covered(self) -> dict[str, list[tuple[int, int]]]:
        """For each file the stretches of positions (first, end) that lie in parts, ascending."""
        stretches: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for part in self.parts:
            for run in part.runs:
                stretches[run.file].append((run.first, run.first + run.count))
        return {name: sorted(found) for name, found in stretches.items()}

    def unfinished(self) -> set[str]:
        """Files of which something is missing: not read to their end, or with passages in a part that was lost."""
        held = {name: sum(end - first for first, end in found) for name, found in self.covered().items()}
        return {name for name, file in self.files.items() if file.passages != held.get(name, 0)}

    def forget(self, name: str) -> None:
        """The file was removed or changed: none of its passages belongs to the library."""
        self.files.pop(name, None)
        for part in self.parts:
            part.runs = [run for run in part.runs if run.file != name]

    def cut_off(self, name: str, end: int) -> None:
        """The file has no passages from position ``end`` on."""
        for part in self.parts:
            for run in part.runs:
                if run.file == name:
                    run.count = max(0, min(run.count, end - run.first))
            part.runs = [run for run in part.runs if run.count]

    def write(self, folder: Path) -> None:
        from taskdef.store import write_atomically  # here: it loads YAML, which opening an index does without

        write_atomically(folder / STATE, json.dumps({"version": VERSION, **asdict(self)}, separators=(",", ":")))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The state, or None where there is none that can be read: the index is then built from the start."""
        try:
            values = json.loads((folder / STATE).read_bytes())
            if values.pop("version") != VERSION:
                return None
            files = {name: FileState(**file) for name, file in values.pop("files").items()}
            parts = [
                PartState(**(part | {"runs": [Run(**run) for run in part["runs"]]})) for part in values.pop("parts")
            ]
            return cls(files=files, parts=parts, **values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
