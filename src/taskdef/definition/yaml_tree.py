"""YAML read so that every value remembers its line, and scalars stay what the user wrote.

YAML 1.1 would turn the choices ``[Yes, No]`` into booleans and ``[01, 1e3]`` into numbers; here every scalar is its
text (or None for an empty one), and the records' types decide what it becomes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from taskdef.errors import DefinitionError
from taskdef.unicode import clean_unicode

_MOST_NODES = 200_000
"""Bound on what a file may unfold to through aliases."""
_NULLS = {"", "~", "null", "Null", "NULL"}

_WRITE = "put a text that holds : or # in quotation marks, and indent with blanks; `taskdef init` writes an example"

Place = tuple[str | int, ...]
"""Path to a value: keys and list positions."""


@dataclass
class YamlTree:
    """A YAML file's values and their lines."""

    path: Path
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)

    def where(self, place: Place) -> str:
        """``file:line`` of a value; of the nearest parent that stands in the file where it has no line itself."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.path}:{self.lines.get(place, 1)}"


def read_yaml_tree(path: Path) -> YamlTree:
    """Read one YAML file. Raises DefinitionError: unreadable, not YAML, a key given twice, nested without end."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DefinitionError(f"{path}: there is no such file", next_step=f"taskdef init {path}") from None
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path}: not UTF-8 at byte {error.start}", next_step="save it as UTF-8") from None
    except OSError as error:
        raise DefinitionError(
            f"{path}: cannot be read: {error.strerror}", next_step="correct the path, or the file's rights"
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise DefinitionError(
            f"{path}{line}: not valid YAML: {error.problem or error.context}", next_step=_WRITE
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DefinitionError(f"{path}: not valid YAML: {error}", next_step=_WRITE) from None
    tree = YamlTree(path)
    if node is not None:
        tree.value = _construct(node, (), tree, 0)
    return tree


def _construct(node: yaml.Node, place: Place, tree: YamlTree, depth: int) -> Any:
    line = node.start_mark.line + 1
    tree.lines.setdefault(place, line)
    if depth > 50 or len(tree.lines) > _MOST_NODES:
        raise DefinitionError(
            f"{tree.path}:{line}: nested too deeply, or an alias that contains itself",
            next_step="write the values out, without aliases (*name)",
        )
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise DefinitionError(
                    f"{tree.path}:{key_line}: a key must be a plain word",
                    next_step="put a text that begins with [, { or ? in quotation marks",
                )
            key = key_node.value
            if key in mapping:
                raise DefinitionError(
                    f"{tree.path}:{key_line}: {dotted((*place, key))}: given twice", next_step="keep one of the two"
                )
            tree.lines[(*place, key)] = key_line
            mapping[key] = _construct(value_node, (*place, key), tree, depth + 1)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*place, index), tree, depth + 1) for index, item in enumerate(node.value)]
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return None if plain and node.value in _NULLS else clean_unicode(node.value)


def dotted(place: Place) -> str:
    """``answer.read``, ``demos[2].input``."""
    text = ""
    for part in place:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text
