"""Stage 2 without anybody writing: samples are examples of the task made by people (paper Table 3: SFT and RL on human
data, with the same number of samples and with all of them).

They go through what written samples go through: the screen against the test set, their own answer must be readable.
Each lost row is a drop with its reason. Near duplicates stay: they are how the file is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskdef.config import SynthesizeConfig, digest
from taskdef.errors import DefinitionError, RunError
from taskdef.records import Drop, DropReason, Sample, Stage, TaskDefinition
from taskdef.screen.screen import Screen
from taskdef.verify.read import read_answer, render_answer

_DETAIL = 400


@dataclass(frozen=True)
class HumanRow:
    """One row of the file."""

    number: int
    """From 1."""
    input: str
    output: str
    answer: str | None
    """What the task's verifier read as its answer."""
    fault: str = ""
    """Why there is none."""


@dataclass(frozen=True)
class HumanSamples:
    """What the file gave."""

    samples: tuple[Sample, ...]
    """In the order of the file."""
    drops: tuple[Drop, ...]
    """One for each row that cannot be used, drawn or not."""
    rows: int
    """In the file."""

    def summary(self) -> dict[str, Any]:
        """The counts for the manifest."""
        dropped = Counter(drop.reason.value for drop in self.drops)
        return {"kept": len(self.samples), "drafts": self.rows, "dropped": dict(dropped.most_common())}


def draw_human_samples(
    definition: TaskDefinition,
    rows: Sequence[HumanRow],
    config: SynthesizeConfig,
    *,
    test_inputs: Sequence[str],
    seed: int,
) -> HumanSamples:
    """Sift all rows, then draw ``config.human.rows`` of those that are left with the seed (all where not given).

    A row's whole output is the solution that SFT learns; a bare label is put into the task's output format. Raises
    RunError where fewer rows are left than are wanted.
    """
    screen = Screen(test_inputs, definition.demos, near_duplicate_similarity=1.0, test_overlap=config.test_overlap)
    samples: list[Sample] = []
    drops: list[Drop] = []
    readable = [row for row in rows if row.answer is not None]
    drops += [_drop(row, DropReason.GOLD_FAILS, row.fault) for row in rows if row.answer is None]
    findings = screen.sift([row.input for row in readable], [_id(row) for row in readable])
    for row, finding in zip(readable, findings, strict=True):
        if finding is not None:
            drops.append(_drop(row, *finding))
            continue
        assert row.answer is not None
        try:
            written = read_answer(definition.answer, row.output) is not None
            solution = row.output if written else render_answer(definition.answer, row.answer)
        except DefinitionError as error:
            drops.append(_drop(row, DropReason.GOLD_FAILS, error.message))
            continue
        samples.append(Sample(id=_id(row), input=row.input, solution=solution, answer=row.answer))
    wanted = config.human.rows or len(samples)
    if len(samples) < wanted or not samples:
        lost = ", ".join(f"{count} {reason}" for reason, count in Counter(d.reason.value for d in drops).most_common())
        raise RunError(
            f"{config.human.file}: {wanted:,} rows are wanted, and {len(samples):,} of {len(rows):,} can be used"
            + (f" ({lost})" if lost else ""),
            next_step="ask for fewer with --set synthesize.human.rows=N, or give a larger file",
        )
    drawn = {sample.id for sample in sorted(samples, key=lambda one: digest([seed, one.id]))[:wanted]}
    return HumanSamples(tuple(sample for sample in samples if sample.id in drawn), tuple(drops), len(rows))


def _id(row: HumanRow) -> str:
    return f"h{row.number:05d}"


def _drop(row: HumanRow, reason: DropReason, detail: str) -> Drop:
    return Drop(reason=reason, stage=Stage.SYNTHESIZE, id=_id(row), detail=detail[:_DETAIL])
