"""The lint of a task definition: everything that can be known to be wrong before anything is spent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from taskdef.definition.load import LoadedDefinition, find_faults
from taskdef.definition.testset import RawRow, read_gold_answers, read_raw_rows, shortened
from taskdef.definition.yaml_tree import dotted
from taskdef.errors import DefinitionError, TestSetError
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, TaskDefinition
from taskdef.verify.compare import choice_key, is_permitted, label_keys, text_key
from taskdef.verify.isolated import Verifier

_MOST_ROWS_NAMED = 20


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """A run would fail, or measure the wrong thing."""
    WARNING = "warning"
    """A run works; this is probably not what was meant."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a definition."""

    severity: Severity
    place: str
    """``file:line`` where known, else the task's name."""
    message: str
    next_step: str | None = None

    def __str__(self) -> str:
        line = f"{self.place}: {self.severity}: {self.message}"
        return line if self.next_step is None else f"{line}\n  next: {self.next_step}"


def check_definition(
    definition: TaskDefinition | LoadedDefinition,
    *,
    make_verifier: Callable[[AnswerSpec], Verifier] = Verifier,
    rows: Sequence[RawRow] | None = None,
) -> list[Finding]:
    """Check a definition, its demos and its test set; errors first.

    Give a ``LoadedDefinition`` (``load_with_places``) for findings with file and line. ``rows`` replaces reading the
    test set. Raises nothing of its own: what a run would raise is a finding here.
    """
    loaded = definition if isinstance(definition, LoadedDefinition) else LoadedDefinition(definition)
    findings = [
        Finding(Severity.ERROR, loaded.where(dotted(place)), f"{dotted(place)}: {message}")
        for place, message in find_faults(loaded.definition)
    ]
    if not findings:  # a faulty pattern or tag would only fail again in everything below
        findings += _check_format(loaded)
        findings += _check_passages(loaded)
        findings += _check_answers(loaded, make_verifier, rows)
    return sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR)


def _check_format(loaded: LoadedDefinition) -> Iterator[Finding]:
    """The output format must ask for what ``answer`` reads, or no completion can ever be right."""
    spec, output_format = loaded.definition.answer, loaded.definition.output_format
    wanted = {
        AnswerReading.NUMBER_AFTER_MARKER: spec.marker,
        AnswerReading.BOXED: r"\boxed",
        AnswerReading.TAG: f"<{spec.tag}>",
    }.get(spec.read)
    if wanted is not None and wanted.strip().casefold() not in output_format.casefold():
        yield Finding(
            Severity.ERROR,
            loaded.where("output_format"),
            f"output_format: does not mention {wanted!r}, which `answer.read: {spec.read.value}` looks for; "
            "a model told this format would never be read",
            f"say in output_format where the answer stands, for example after or within {wanted!r}",
        )
    told = f"{loaded.definition.input_format}\n{output_format}".casefold()
    missing = [choice for choice in spec.choices if len(choice) > 1 and choice.casefold() not in told]
    if missing:
        yield Finding(
            Severity.WARNING,
            loaded.where("output_format"),
            f"output_format: does not name {_listed(missing)} of the permitted answers",
            "name every permitted answer, spelled as in answer.choices",
        )


def _check_passages(loaded: LoadedDefinition) -> Iterator[Finding]:
    passages = loaded.definition.passages
    if not passages:
        yield Finding(
            Severity.WARNING,
            loaded.where(""),
            "passages: none given; samples will be written without passages and vary less",
            "name a file or a folder of texts under `passages:`",
        )
    for index, source in enumerate(passages):
        reason = _emptiness(source.path) if source.path is not None else None  # a data set is asked for when it is read
        if reason:
            key = f"passages[{index + 1}]"
            yield Finding(Severity.ERROR, loaded.where(key), f"{key}: {source.path} {reason}", "correct the path")


def _emptiness(path: Path) -> str | None:
    try:
        if path.is_dir():
            has_text = any(file.is_file() and file.stat().st_size for file in path.rglob("*"))
            return None if has_text else "is a folder without any text"
        return None if path.stat().st_size else "is empty"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _check_answers(
    loaded: LoadedDefinition, make_verifier: Callable[[AnswerSpec], Verifier], rows: Sequence[RawRow] | None
) -> list[Finding]:
    try:
        with make_verifier(loaded.definition.answer) as verifier:
            demo_findings, demo_answers = _check_demos(loaded, verifier)
            test_findings, test_answers = _check_test(loaded, verifier, rows)
    except DefinitionError as error:
        return [Finding(Severity.ERROR, loaded.where("answer.function"), error.message, error.next_step)]
    return demo_findings + test_findings + _check_coverage(loaded, demo_answers, test_answers)


def _check_demos(loaded: LoadedDefinition, verifier: Verifier) -> tuple[list[Finding], list[str]]:
    """Every demo must be read strictly: demos teach the format, so a bare label will not do."""
    demos, spec = loaded.definition.demos, loaded.definition.answer
    findings, answers, seen = [], [], dict[str, int]()
    readings = verifier.read_all([demo.output for demo in demos])
    gold = read_gold_answers(spec, verifier, [demo.output for demo in demos])
    for number, (demo, reading, checked) in enumerate(zip(demos, readings, gold, strict=True), start=1):
        key = f"demos[{number}]"
        if reading.answer is None or checked.answer is None:
            reason = checked.failure or f"`read: {spec.read.value}` finds no answer in it"
            message = f"{key}: the output's answer cannot be used: {reason} (output: {shortened(demo.output)!r})"
            hint = "write the demo's output in the output format, ending in its answer"
            findings.append(Finding(Severity.ERROR, loaded.where(key), message, hint))
        else:
            answers.append(reading.answer)
        first = seen.setdefault(text_key(demo.input), number)
        if first != number:
            message = f"{key}: the same input as demos[{first}]"
            findings.append(Finding(Severity.WARNING, loaded.where(key), message, "leave one of them out"))
    return findings, answers


def _check_test(
    loaded: LoadedDefinition, verifier: Verifier, rows: Sequence[RawRow] | None
) -> tuple[list[Finding], list[str]]:
    definition = loaded.definition
    if rows is None:
        if definition.test is None:
            message = "test: no test set; the run cannot show what was gained"
            hint = "give JSON lines with `input` and `output`: `test: FILE` in the definition, or --test FILE"
            return [Finding(Severity.WARNING, loaded.where(""), message, hint)], []
        try:
            rows = read_raw_rows(definition)
        except TestSetError as error:
            return [Finding(Severity.ERROR, loaded.where("test"), error.message, error.next_step)], []
    findings, answers = [], []
    for row, reading in zip(
        rows, read_gold_answers(definition.answer, verifier, [row.output for row in rows]), strict=True
    ):
        if reading.answer is not None:
            answers.append(reading.answer)
            continue
        message = f"the gold answer cannot be used: {reading.failure} (output: {shortened(row.output)!r})"
        findings.append(Finding(Severity.ERROR, row.place, message, "correct the row, or `answer`"))
    if len(findings) > _MOST_ROWS_NAMED:
        more = f"{len(findings) - _MOST_ROWS_NAMED} more rows with an unusable gold answer"
        findings = [*findings[:_MOST_ROWS_NAMED], Finding(Severity.ERROR, loaded.where("test"), more)]
    by_input = {text_key(row.input): row for row in rows}
    for number, demo in enumerate(definition.demos, start=1):
        same = by_input.get(text_key(demo.input))
        if same is not None:
            message = f"demos[{number}]: its input also stands in the test set ({same.place})"
            hint = "take the demo out of one of them; what is tested must not be shown"
            findings.append(Finding(Severity.ERROR, loaded.where(f"demos[{number}]"), message, hint))
    return findings, answers


def _check_coverage(loaded: LoadedDefinition, demo_answers: list[str], test_answers: list[str]) -> list[Finding]:
    """A permitted answer that never occurs is a misspelling more often than a rarity."""
    spec = loaded.definition.answer
    answers = demo_answers + test_answers
    if not spec.choices or not answers:
        return []
    seen: set[str] = set()
    for answer in answers:
        if spec.compare is AnswerComparison.LABEL_SET:
            seen |= label_keys(spec.choices, answer)
        elif is_permitted(spec, answer):
            seen.add(choice_key(spec.choices, answer))
    missing = [choice for choice in spec.choices if text_key(choice) not in seen]
    # A handful of demos need not show every letter of a multiple-choice task; a whole test set does.
    letters = all(re.fullmatch(r"\w", choice) for choice in spec.choices)
    if not missing or (letters and not test_answers):
        return []
    where = "demos and test rows" if demo_answers and test_answers else "demos" if demo_answers else "test rows"
    message = f"answer.choices: {_listed(missing)} never occurs as an answer in the {where}"
    return [Finding(Severity.WARNING, loaded.where("answer.choices"), message, "check the spelling, or add a demo")]


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(repr(word) for word in words[:6])
    return shown if len(words) <= 6 else f"{shown} and {len(words) - 6} more"
