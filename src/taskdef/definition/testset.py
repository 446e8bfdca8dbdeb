"""The held-out rows: from a local file or the Hugging Face hub, each with a gold answer that its verifier accepts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskdef.errors import TestSetError
from taskdef.hub import find_hub_fault
from taskdef.records import AnswerComparison, AnswerSpec, TaskDefinition, TestRow, TestSource
from taskdef.unicode import clean_unicode
from taskdef.verify.compare import is_permitted
from taskdef.verify.isolated import Reading, Verifier
from taskdef.verify.numbers import number_value

_LOCAL_FILE = "give a local file of rows with `input` and `output`: --test FILE"


@dataclass(frozen=True)
class RawRow:
    """A row before its gold answer was read."""

    id: str
    place: str
    """``file:line``, or the data set's id and row."""
    input: str
    output: str


def load_test_rows(definition: TaskDefinition, verifier: Verifier) -> list[TestRow]:
    """Read the test set and the gold answer of every row.

    Raises TestSetError: no test set, unreadable, empty, or a row whose gold answer fails its own verifier.
    """
    rows = read_raw_rows(definition)
    gold = read_gold_answers(definition.answer, verifier, [row.output for row in rows])
    kept = []
    for row, reading in zip(rows, gold, strict=True):
        if reading.answer is None:
            raise TestSetError(
                f"{row.place}: the gold answer cannot be used: {reading.failure} (output: {shortened(row.output)!r})",
                next_step="correct the row, or `answer` in the task definition; `taskdef check` lists all such rows",
            )
        kept.append(TestRow(id=row.id, input=row.input, answer=reading.answer))
    return kept


def read_gold_answers(spec: AnswerSpec, verifier: Verifier, outputs: Sequence[str]) -> list[Reading]:
    """The gold answer of each output; where there is none, ``failure`` says why.

    Public data sets often give the bare label. Where nothing is read and the whole output is itself a valid answer
    (one of the choices, a number), that is the gold answer.
    """
    readings = verifier.read_all(outputs)
    gold = []
    for output, reading in zip(outputs, readings, strict=True):
        answer = reading.answer
        if answer is None and not reading.failure and _is_bare_answer(spec, output):
            answer = output.strip()
        if reading.failure:
            gold.append(Reading(None, f"reading it failed: {reading.failure}"))
        elif answer is None:
            gold.append(Reading(None, f"`read: {spec.read.value}` finds no answer in it"))
        elif not is_permitted(spec, answer):
            wanted = f"none of {', '.join(spec.choices)}" if spec.choices else "no number"
            gold.append(Reading(None, f"{shortened(answer)!r} is {wanted}"))
        else:
            gold.append(Reading(answer))
    found = [(index, reading.answer) for index, reading in enumerate(gold) if reading.answer is not None]
    agreements = verifier.same([(answer, answer) for _, answer in found])
    for (index, answer), agreement in zip(found, agreements, strict=True):
        if agreement is not True:
            gold[index] = Reading(None, f"{shortened(answer)!r} does not equal itself by `compare: {spec.compare}`")
    return gold


def _is_bare_answer(spec: AnswerSpec, output: str) -> bool:
    if spec.compare is AnswerComparison.MATH or (spec.compare is AnswerComparison.TEXT and not spec.choices):
        return number_value(output) is not None
    return bool(output.strip()) and is_permitted(spec, output.strip())


def read_raw_rows(definition: TaskDefinition, limit: int | None = None) -> list[RawRow]:
    """The test set's rows with their templates filled in. Raises TestSetError."""
    source = definition.test
    if source is None:
        raise TestSetError(f"{definition.name}: the task has no test set", next_step=f"add `test:`, or {_LOCAL_FILE}")
    numbered = _local_rows(source.path) if source.path is not None else _hub_rows(source)
    fill_input, fill_output = _Template(source.input, "input"), _Template(source.output, "output")
    rows: list[RawRow] = []
    for number, place, fields in numbered:
        if limit is not None and len(rows) >= limit:
            break
        given = fill_input(fields, place).strip()
        if not given:
            raise TestSetError(
                f"{place}: the input is empty",
                next_step="fill the row in or take it out, or adapt the template `test.input`",
            )
        rows.append(RawRow(f"test-{number}", place, given, fill_output(fields, place)))
    if not rows:
        raise TestSetError(f"{source.path or source.hub}: the test set holds no rows", next_step=_LOCAL_FILE)
    return rows


def read_human_rows(definition: TaskDefinition, path: Path) -> list[RawRow]:
    """Rows of a file of human examples: its ``input`` and ``output``, or else what the test set's templates make of it.

    Raises TestSetError where it cannot be read.
    """
    if not path.is_file():
        raise TestSetError(
            f"{path}: the human examples cannot be read: no such file",
            next_step="give a file of JSON lines with `input` and `output`",
        )
    own = definition.test or TestSource(path=path)
    first = next((fields for _, _, fields in _local_rows(path)), {})
    plain = "input" in first and "output" in first
    source = TestSource(path=path) if plain else own.model_copy(update={"path": path, "hub": None})
    return read_raw_rows(definition.model_copy(update={"test": source}))


def _local_rows(path: Path) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                place = f"{path}:{number}"
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    message = f"{place}: not JSON: {error}"
                    raise TestSetError(message, next_step="one JSON object a line") from None
                if not isinstance(row, dict):
                    raise TestSetError(
                        f"{place}: expected a JSON object, found {type(row).__name__}",
                        next_step="one JSON object a line",
                    )
                yield number, place, row
    except UnicodeDecodeError as error:
        raise TestSetError(f"{path}: not UTF-8 text: {error}", next_step="save it as UTF-8") from None
    except OSError as error:
        message = f"{path}: the test set cannot be read: {error.strerror}"
        raise TestSetError(message, next_step=_LOCAL_FILE) from None


def _hub_rows(source: TestSource) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    name = f"{source.hub} ({source.subset}, {source.split})" if source.subset else f"{source.hub} ({source.split})"
    for number, row in enumerate(_load_from_hub(source, name), start=1):
        yield number, f"{name} row {number}", row


def _load_from_hub(source: TestSource, name: str) -> Any:
    import datasets  # a second and more: only for those who load from the hub

    assert source.hub is not None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    fault = find_hub_fault("dataset", source.hub)
    offline = datasets.config.HF_HUB_OFFLINE
    try:
        if fault is not None and not fault.reached:
            datasets.config.HF_HUB_OFFLINE = True  # rows that were loaded before come from the cache, without tries
        try:
            return datasets.load_dataset(source.hub, source.subset, split=source.split)
        except RuntimeError as error:
            if "script" not in str(error):
                raise
            # `datasets` runs no loading scripts any more; the hub keeps the same rows converted to Parquet.
            folder = f"{source.hub}@refs%2Fconvert%2Fparquet/{source.subset or 'default'}/{source.split}"
            return datasets.load_dataset("parquet", data_files=f"hf://datasets/{folder}/*.parquet", split="train")
    except Exception as error:
        reason = fault.reason if fault is not None else f"{type(error).__name__}: {error}"
        message = f"{name}: cannot be loaded from the Hugging Face hub: {shortened(reason, 300)}"
        raise TestSetError(message, next_step=f"without a network (or without access): {_LOCAL_FILE}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


class _Template:
    """One of the two templates over a row's fields, filled in a sandbox.

    Fields are variables; ``row`` holds all of them, for names with blanks. Two filters serve choice tasks:
    ``items | shuffled(key)`` is an order that depends on ``key`` only, ``2 | letter`` is "C".
    """

    def __init__(self, template: str, part: str) -> None:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._part, self._error = part, TemplateError
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
        environment.filters |= {"shuffled": _shuffled, "letter": lambda index: chr(ord("A") + int(index))}
        try:
            self._template = environment.from_string(template)
        except TemplateError as error:
            raise TestSetError(
                f"test.{part}: {template!r} is no valid template: {error}",
                next_step="correct it; a field of the row is written {{ field }}",
            ) from None

    def __call__(self, fields: Mapping[str, Any], place: str) -> str:
        try:
            return clean_unicode(self._template.render({**fields, "row": fields}))
        except (self._error, TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
            names = ", ".join(map(str, fields)) or "none"
            message = f"{place}: test.{self._part} cannot be filled in: {error}; the row's fields: {names}"
            hint = f"adapt the templates `test.input` and `test.output`, or {_LOCAL_FILE}"
            raise TestSetError(message, next_step=hint) from None


def _shuffled(items: Sequence[Any], key: str) -> list[Any]:
    """A fixed order that depends on nothing but ``key``, so that a correct option's letter gives nothing away."""
    return random.Random(str(key)).sample(list(items), len(items))


def shortened(text: str, length: int = 120) -> str:
    """One line of a text for a message, the end kept, since answers stand there."""
    line = " ".join(text.split())
    return line if len(line) <= length else "…" + line[-length:]
