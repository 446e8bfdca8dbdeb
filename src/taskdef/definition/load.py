"""Reading a task definition from task.yaml: every fault is named with its file and line, all of them at once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taskdef.definition.yaml_tree import Place, YamlTree, dotted, read_yaml_tree
from taskdef.errors import DefinitionError
from taskdef.readable import did_you_mean, nearest
from taskdef.records import (
    AnswerComparison,
    AnswerReading,
    AnswerSpec,
    Demo,
    PassageSource,
    TaskDefinition,
    TestSource,
)
from taskdef.unicode import clean_unicode
from taskdef.verify.compare import text_key

_RECORDS: dict[str, type[BaseModel]] = {
    "answer": AnswerSpec,
    "demos": Demo,
    "passages": PassageSource,
    "test": TestSource,
}


@dataclass(frozen=True)
class LoadedDefinition:
    """A task definition and where its parts stand."""

    definition: TaskDefinition
    places: dict[str, str] = field(default_factory=dict)
    """Dotted key (``answer.read``, ``demos[2]``) -> ``file:line``."""

    def where(self, key: str) -> str:
        """``file:line`` of a key, or of the nearest key above it; the task's name where nothing is known."""
        while key and key not in self.places:
            key = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", key)
        return self.places.get(key, self.definition.name)


def load_definition(path: Path) -> TaskDefinition:
    """Read task.yaml; relative paths in it are taken from its folder.

    Raises DefinitionError, one line a fault (``task.yaml:12: answer.read: …``).
    """
    return load_with_places(path).definition


def load_with_places(path: Path) -> LoadedDefinition:
    """As ``load_definition``, with the file and line of every key."""
    tree = read_yaml_tree(path)
    if not isinstance(tree.value, dict):
        found = "nothing" if tree.value is None else f"a {'list' if isinstance(tree.value, list) else 'text'}"
        raise DefinitionError(
            f"{path}: expected a mapping (name, description, …), found {found}",
            next_step="`taskdef init` writes a task.yaml to start from",
        )
    places = {dotted(place): f"{path}:{line}" for place, line in tree.lines.items()}
    values = {key: value for key, value in tree.value.items() if value is not None}
    folder = path.absolute().parent
    _unfold_answer(values, tree)
    _unfold_demos(values, tree, folder, places)
    _unfold_paths(values, tree, folder)
    if isinstance(values.get("domains"), str):
        values["domains"] = [values["domains"]]
    try:
        definition = TaskDefinition.model_validate(values)
    except ValidationError as error:
        lines = [_explain(fault, tree) for fault in error.errors()]
        raise DefinitionError("\n".join(lines), next_step=_CHECK.format(path)) from None
    faults = [f"{tree.where(place)}: {dotted(place)}: {message}" for place, message in find_faults(definition)]
    if faults:
        raise DefinitionError("\n".join(faults), next_step=_CHECK.format(path))
    return LoadedDefinition(definition, places)


_DEMO_LINE = 'one JSON object a line: {"input": …, "output": …}'
_CHECK = "correct it, then `taskdef check {}`"


def find_faults(definition: TaskDefinition) -> list[tuple[Place, str]]:
    """What the types alone cannot refuse: blank texts, an answer reading without what it needs."""
    faults: list[tuple[Place, str]] = []
    for key in ("description", "output_format"):
        if not getattr(definition, key).strip():
            faults.append(((key,), "is empty; the instructor and the base model are told this text"))
    spec = definition.answer
    if spec.read is AnswerReading.NUMBER_AFTER_MARKER and not spec.marker.strip():
        faults.append((("answer", "marker"), "is empty; give the text that stands before the number, such as '####'"))
    if spec.read is AnswerReading.TAG and not re.fullmatch(r"[A-Za-z][\w.-]*", spec.tag):
        faults.append((("answer", "tag"), f"{spec.tag!r} is no tag name; give it without brackets, such as 'answer'"))
    if spec.read is AnswerReading.REGEX:
        faults += _pattern_faults(spec.pattern)
    if spec.read is AnswerReading.FUNCTION and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", spec.function or ""):
        message = f"{spec.function!r} is no dotted path such as 'my_task.read_answer'"
        faults.append((("answer", "function"), message))
    if spec.compare is AnswerComparison.CHOICE and not spec.choices:
        message = "`compare: choice` needs the permitted answers, such as `choices: [A, B, C, D]`"
        faults.append((("answer", "choices"), message))
    faults += _passage_faults(definition)
    keys = [text_key(choice) for choice in spec.choices]
    for index, key in enumerate(keys):
        if not key:
            faults.append((("answer", "choices", index), "is empty"))
        elif key in keys[:index]:
            message = f"{spec.choices[index]!r} says the same as {spec.choices[keys.index(key)]!r}"
            faults.append((("answer", "choices", index), message))
    return faults


def _passage_faults(definition: TaskDefinition) -> list[tuple[Place, str]]:
    faults: list[tuple[Place, str]] = []
    for index, source in enumerate(definition.passages):
        if source.path is None and source.hub is None:
            faults.append((("passages", index), "names neither a `path` nor a `hub` data set"))
        if source.path is not None and source.hub is not None:
            faults.append((("passages", index, "hub"), "a library is a `path` or a `hub` data set, not both"))
        if source.overlap_words > source.passage_words // 2:
            message = f"{source.overlap_words} is more than half of `passage_words` ({source.passage_words})"
            faults.append((("passages", index, "overlap_words"), message))
    return faults


def _pattern_faults(pattern: str | None) -> list[tuple[Place, str]]:
    place: Place = ("answer", "pattern")
    if not pattern:
        return [(place, "`read: regex` needs a regular expression here")]
    try:
        re.compile(pattern)
    except re.error as error:
        return [(place, f"{pattern!r} does not compile: {error}")]
    return []


def _unfold_answer(values: dict[str, Any], tree: YamlTree) -> None:
    """``labels`` is another word for ``choices``; a single choice may stand without a list."""
    answer = values.get("answer")
    if not isinstance(answer, dict):
        return
    answer = {key: value for key, value in answer.items() if value is not None}
    if "labels" in answer:
        if "choices" in answer:
            where = tree.where(("answer", "labels"))
            raise DefinitionError(f"{where}: answer.labels: means the same as choices", next_step="give one of them")
        answer["choices"] = answer.pop("labels")
        for place in [place for place in tree.lines if place[:2] == ("answer", "labels")]:
            tree.lines[("answer", "choices", *place[2:])] = tree.lines[place]
    if isinstance(answer.get("choices"), list):  # an unquoted ~ or null in the list was meant as a word
        answer["choices"] = ["null" if choice is None else choice for choice in answer["choices"]]
    values["answer"] = answer


def _unfold_demos(values: dict[str, Any], tree: YamlTree, folder: Path, places: dict[str, str]) -> None:
    demos = values.get("demos")
    if not isinstance(demos, str):
        return
    path = _resolve(demos, folder)
    where = tree.where(("demos",))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DefinitionError(
            f"{where}: demos: {path} cannot be read: {reason}",
            next_step="correct the path (it is taken from task.yaml's folder), or write the demos out under `demos:`",
        ) from None
    rows: list[dict[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            Demo.model_validate(row, strict=True)
        except json.JSONDecodeError as error:
            raise DefinitionError(f"{path}:{number}: not JSON: {error.msg}", next_step=_DEMO_LINE) from None
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"])) or "the line"
            message = f"{path}:{number}: {key}: {fault['msg'].lower()}"
            raise DefinitionError(message, next_step=_DEMO_LINE) from None
        places[f"demos[{len(rows) + 1}]"] = f"{path}:{number}"
        rows.append({key: clean_unicode(value) for key, value in row.items()})
    if not rows:
        raise DefinitionError(f"{where}: demos: {path} holds no demos", next_step="leave `demos` out for none")
    values["demos"] = rows


def _unfold_paths(values: dict[str, Any], tree: YamlTree, folder: Path) -> None:
    """Short forms of ``passages`` and ``test``, and absolute paths."""
    passages = values.get("passages")
    if isinstance(passages, str | dict):
        passages = [passages]
    if isinstance(passages, list):
        sources = [{"path": source} if isinstance(source, str) else source for source in passages]
        values["passages"] = [_with_folder(_with_path(source, folder), folder) for source in sources]
    test = values.get("test")
    if isinstance(test, str):
        test = {"path": test}
    if isinstance(test, dict):
        test = {key: value for key, value in test.items() if value is not None}
        if not {"path", "hub"} & set(test):
            where = tree.where(("test",))
            raise DefinitionError(
                f"{where}: test: names neither a `path` nor a `hub` data set",
                next_step="add `path: rows.jsonl` or `hub: OWNER/NAME`",
            )
        values["test"] = _with_path(test, folder)


def _with_path(source: Any, folder: Path) -> Any:
    if isinstance(source, dict) and isinstance(source.get("path"), str):
        return source | {"path": _resolve(source["path"], folder)}
    return source


def _with_folder(source: Any, folder: Path) -> Any:
    """A data set's folder is told from an id by how it begins, as a shell would: ./name, ../name, ~/name, /name."""
    if isinstance(source, dict) and isinstance(source.get("hub"), str) and source["hub"].startswith((".", "/", "~")):
        return source | {"hub": str(_resolve(source["hub"], folder))}
    return source


def _resolve(path: str, folder: Path) -> Path:
    return (folder / Path(path).expanduser()).resolve()


def _explain(fault: ErrorDetails, tree: YamlTree) -> str:
    """One line for one of pydantic's faults."""
    place: Place = tuple(fault["loc"])
    given = fault["input"]
    allowed = fault.get("ctx", {}).get("expected")
    if fault["type"] == "extra_forbidden":
        message = f"there is no such key{_nearest_or_all(str(place[-1]), _known_keys(place))}"
    elif fault["type"] == "missing":
        message = "is missing"
    elif fault["type"] == "enum" and isinstance(allowed, str):
        names = re.findall(r"'([^']*)'", allowed)
        message = f"{given!r} is not one of {', '.join(names)}{_nearest_or_all(str(given), names)}"
    elif place == ("name",) and fault["type"] == "string_pattern_mismatch":
        message = f"{given!r} must be lower-case letters, digits, '-' and '_', beginning with a letter or digit"
    elif fault["type"] == "string_too_short":
        message = "is empty"
    else:
        shown = repr(given) if len(repr(given)) < 80 else type(given).__name__
        message = f"{fault['msg'][:1].lower()}{fault['msg'][1:]} (given: {shown})"
    return f"{tree.where(place)}: {dotted(place)}: {message}"


def _known_keys(place: Place) -> list[str]:
    record = TaskDefinition if len(place) == 1 else _RECORDS.get(str(place[0]), TaskDefinition)
    return list(record.model_fields)


def _nearest_or_all(given: str, known: list[str]) -> str:
    return did_you_mean(nearest(given, known)) or f"; known: {', '.join(known)}"
