"""The sets of texts that are compared: a run's samples at three places of their path, and human rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskdef.definition.testset import read_gold_answers, read_raw_rows
from taskdef.errors import TestSetError
from taskdef.records import Origin, Sample, TestSource
from taskdef.report.gather import Artifacts
from taskdef.store import RunDirectory
from taskdef.verify.isolated import Verifier


@dataclass(frozen=True)
class TextSet:
    """Inputs with their solutions."""

    name: str
    ids: Sequence[str]
    inputs: Sequence[str]
    solutions: Sequence[str]


@dataclass(frozen=True)
class HumanRow:
    """One row of a human data set."""

    id: str
    input: str
    output: str
    answer: str | None
    """None where the task's reading finds none: such a row counts as text, not as an answer."""


def sample_sets(artifacts: Artifacts) -> list[TextSet]:
    """Those sets that the run has come to, in the data's order."""
    initial = [one for one in artifacts.adapted if one.origin is Origin.INITIAL] or artifacts.initial
    found = {"initial": initial, "all": artifacts.adapted, "training": artifacts.selected}
    return [_of_samples(name, samples) for name, samples in found.items() if samples]


def human_set(rows: Sequence[HumanRow]) -> TextSet:
    """Human rows as a set."""
    ids, inputs, outputs = [row.id for row in rows], [row.input for row in rows], [row.output for row in rows]
    return TextSet("human", ids, inputs, outputs)


def read_human(run: RunDirectory, path: Path) -> list[HumanRow]:
    """Rows of JSON lines with ``input`` and ``output``, their answers read as the task's test rows are.

    Raises TestSetError where the file cannot be read or a row has no input.
    """
    definition = run.definition.model_copy(update={"test": TestSource(path=path)})
    try:
        raw = read_raw_rows(definition)
    except TestSetError as error:  # it is read as a test set is, and is none
        raise TestSetError(
            error.message.replace("the test set", "the human file"),
            next_step="--human FILE: one JSON object a line, with `input` and `output`",
        ) from None
    with Verifier(definition.answer, timeout_seconds=run.config.verify.timeout_seconds) as verifier:
        readings = read_gold_answers(definition.answer, verifier, [row.output for row in raw])
    return [
        HumanRow(row.id.replace("test-", "human-"), row.input, row.output, reading.answer)
        for row, reading in zip(raw, readings, strict=True)
    ]


def _of_samples(name: str, samples: Sequence[Sample]) -> TextSet:
    return TextSet(name, [s.id for s in samples], [s.input for s in samples], [s.solution for s in samples])
