"""Passages graded by a person at the terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence

from taskdef.errors import ConfigError
from taskdef.records import Passage, Relevance, TaskDefinition

_KEYS = {
    "r": (Relevance.RELEVANT, "relevant: an example of this very task can be written from it"),
    "p": (Relevance.PARTLY, "partly: of the task's field, but no more than a setting or some words"),
    "i": (Relevance.IRRELEVANT, "irrelevant: nothing of it serves the task"),
}
_SKIP, _STOP = "s", "q"
_WIDEST = 100


def grade_by_hand(
    definition: TaskDefinition, passages: Sequence[Passage], keep: Callable[[Passage, Relevance], None]
) -> None:
    """Show one passage after the other and hand every grade to ``keep`` at once, so that none is lost.

    Ends after the last passage, at ``q`` and at the end of input. Raises ConfigError where nobody sits at a terminal.
    """
    if not sys.stdin.isatty():
        raise ConfigError(
            "--by-hand: standard input is no terminal",
            next_step="type the command in a terminal, or leave --by-hand out: then the instructor grades",
        )
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    print(f"The task: {_shown(definition.description, width)}\n")
    for key, (_, meaning) in _KEYS.items():
        print(f"  {key}  {meaning}")
    print(f"  {_SKIP}  skip it, {_STOP}  stop here; what is graded is kept")
    for number, passage in enumerate(passages, start=1):
        print(f"\n[{number}/{len(passages)}] {_shown(passage.id, width)}\n{_shown(passage.text, width)}")
        key = _ask()
        if key == _STOP:
            return
        if key != _SKIP:
            keep(passage, _KEYS[key][0])


def _ask() -> str:
    known = "/".join([*_KEYS, _SKIP, _STOP])
    while True:
        try:
            key = input(f"{known} > ").strip().lower()
        except EOFError:
            return _STOP
        if key in _KEYS or key in (_SKIP, _STOP):
            return key
        print(f"not one of {known}")


def _shown(text: str, width: int) -> str:
    """A foreign text for a terminal: wrapped, and without characters that would steer it."""
    plain = "".join(character if character.isprintable() or character == "\n" else " " for character in text)
    return "\n".join(textwrap.fill(line, width) for line in plain.splitlines())
