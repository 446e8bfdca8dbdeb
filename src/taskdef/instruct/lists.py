"""Lists out of what a model wrote: of texts, of objects, or several under their names. Never eval."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from taskdef.instruct.draft_form import as_text, is_placeholder, is_refusal
from taskdef.instruct.json_text import LONGEST, find_whole, repaired
from taskdef.instruct.latex import escape_latex
from taskdef.instruct.thinking import without_thinking

_MARK = re.compile(r"^[ \t]{0,9}(?:[-*•]|\d{1,4}[.)])[ \t]+", re.MULTILINE)
_DEEPEST = 8


def read_items(text: str, *, cut: bool = False) -> list[str]:
    """The texts of a JSON list, or of a list with dashes or numbers; each once, in order. ``*`` and the like are none.

    ``cut``: the token limit ended the response, so that the last item of a list without its end is left out.
    """
    answer = without_thinking(text).text[:LONGEST]
    for value, is_whole in _values(answer):
        if found := _texts(value):
            return found if is_whole or not cut else found[:-1]
    plain = answer.strip()
    if not plain or plain[0] in "{[" or is_refusal(plain):
        return []
    pieces = [" ".join(piece.split()) for piece in _MARK.split(plain)]
    marked = _MARK.match(plain) is not None
    items = pieces if marked else pieces[1:]  # what stands before the first mark is an introduction
    kept = _unique(item.strip("\"'") for item in items)
    return kept[:-1] if cut else kept


def read_objects(text: str, name: str, *, cut: bool = False) -> list[dict[str, Any]]:
    """The objects that hold a text under ``name``; where there are none, the texts of a list, each under ``name``.

    ``cut`` as in ``read_items``.
    """
    for value, is_whole in _values(without_thinking(text).text[:LONGEST]):
        if found := list(_holders(value, name)):
            return found if is_whole or not cut else found[:-1]
    return [{name: item} for item in read_items(text, cut=cut)]


def read_lists(text: str, names: tuple[str, ...]) -> dict[str, tuple[str, ...]] | None:
    """The lists of texts under ``names`` in one object, an empty one where it has none; None without such an object."""
    for value, _ in _values(without_thinking(text).text[:LONGEST]):
        if isinstance(value, dict) and any(name in value for name in names):
            return {name: tuple(_texts(value.get(name))) for name in names}
    return None


def _values(answer: str) -> Iterator[tuple[Any, bool]]:
    """JSON values, and whether each is valid as it stands."""
    escaped = escape_latex(answer)
    yield from ((found.value, True) for found in find_whole(escaped))
    yield from ((value, False) for value in repaired(escaped))


def _texts(value: Any) -> list[str]:
    return _unique(_leaves(value))


def _unique(items: Iterator[str] | list[str]) -> list[str]:
    return list(dict.fromkeys(item for item in items if any(map(str.isalnum, item)) and not is_placeholder(item)))


def _leaves(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield as_text(value)
    elif isinstance(value, dict | list) and depth <= _DEEPEST:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item, depth + 1)


def _holders(value: Any, name: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > _DEEPEST or not isinstance(value, dict | list):
        return
    if isinstance(value, dict) and isinstance(value.get(name), str) and not is_placeholder(as_text(value[name])):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield from _holders(item, name, depth + 1)
