"""Packs: the paper's eight tasks as ready definitions (``packs/*.yaml``), and finding a task by name or file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from taskdef.definition.load import LoadedDefinition, load_definition, load_with_places
from taskdef.errors import DefinitionError
from taskdef.readable import did_you_mean, nearest
from taskdef.records import TaskDefinition, TestSource

_FOLDER = Path(__file__).parent / "packs"
PAPER_ORDER = ("gsm8k", "math", "gpqa", "logiqa", "medqa", "mednli", "cqa", "cfa")
"""The order of the paper's Table 3; packs added later follow in alphabetical order."""


@dataclass(frozen=True)
class PackRow:
    """One line of ``taskdef packs``."""

    name: str
    summary: str
    """The description's first line."""
    test_set: str
    """Hub id, subset and split."""


def pack_names() -> list[str]:
    """Names of all packs."""
    found = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
    return sorted(found, key=lambda name: PAPER_ORDER.index(name) if name in PAPER_ORDER else len(PAPER_ORDER))


def load_pack(name: str, test_path: Path | None = None) -> TaskDefinition:
    """A pack's definition. With ``test_path`` its test set is that file of rows with ``input`` and ``output``.

    Raises DefinitionError for an unknown name.
    """
    if name not in pack_names():
        raise DefinitionError(f"there is no pack {name!r}{_nearest_pack(name)}", next_step="`taskdef packs` lists them")
    return _with_test(_load(name), test_path)


def resolve_loaded(text: str, test_path: Path | None = None) -> LoadedDefinition:
    """The task meant on the command line: a path to a task.yaml (or to its folder), or a pack's name.

    Raises DefinitionError where it is neither.
    """
    path = Path(text).expanduser()
    if path.is_dir() and (path / "task.yaml").is_file():
        path = path / "task.yaml"
    if path.is_file() or path.suffix in {".yaml", ".yml"}:
        loaded = load_with_places(path)
        return replace(loaded, definition=_with_test(loaded.definition, test_path))
    if text in pack_names():
        return LoadedDefinition(load_pack(text, test_path))
    raise DefinitionError(
        f"{text!r} is neither a file nor a pack{_nearest_pack(text)}",
        next_step="`taskdef packs` lists the known tasks; `taskdef init` writes a task.yaml to start from",
    )


def pack_table() -> list[PackRow]:
    """What ``taskdef packs`` prints."""
    rows = []
    for name in pack_names():
        definition = _load(name)
        test = definition.test
        parts = [part for part in (test.hub, test.subset, test.split) if part] if test else []
        rows.append(PackRow(name, definition.description.strip().splitlines()[0], " ".join(parts)))
    return rows


@cache
def _load(name: str) -> TaskDefinition:
    return load_definition(_FOLDER / f"{name}.yaml")


def _with_test(definition: TaskDefinition, test_path: Path | None) -> TaskDefinition:
    if test_path is None:
        return definition
    path = test_path.expanduser().resolve()
    # Templates written for a local file are kept; those written for a hub data set's columns are not.
    own = definition.test is not None and definition.test.hub is None
    test = definition.test.model_copy(update={"path": path}) if own and definition.test else TestSource(path=path)
    return definition.model_copy(update={"test": test})


def _nearest_pack(name: str) -> str:
    return did_you_mean(nearest(name.lower(), pack_names()))
