"""How long work says how far it is. Stages talk to this protocol; the CLI decides what a person sees."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One moving bar at a time, and lines of text beside it."""

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Begin a piece of work of ``total`` units, ``done`` of which an earlier process did."""
        ...

    def advance(self, units: int = 1, note: str = "") -> None:
        """Some units are done; ``note`` is a short figure worth seeing (a reward, a share)."""
        ...

    def finish(self) -> None:
        """The piece of work is over."""
        ...

    def line(self, text: str) -> None:
        """Something worth a line of its own."""
        ...


class SilentProgress:
    """Says nothing; what library users get by default."""

    def start(self, label: str, total: int, done: int = 0) -> None: ...

    def advance(self, units: int = 1, note: str = "") -> None: ...

    def finish(self) -> None: ...

    def line(self, text: str) -> None: ...
