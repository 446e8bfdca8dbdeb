"""The proof that no held-out question was seen: counted again at the end, independently of the screen that keeps
them out on the way. Only equality after normalisation counts here; near matches are the screen's business."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from taskdef.evaluate.records import PoolOverlap
from taskdef.records import Sample, Stage, TestRow
from taskdef.store import RunDirectory


def normalised(text: str) -> str:
    """A question without what does not make it another question: case, spacing, Unicode variants.

    Punctuation stays: "3 - 5" is not "3 + 5".
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def count_overlap(rows: Sequence[TestRow], pools: Mapping[str, Iterable[str]]) -> dict[str, PoolOverlap]:
    """For each pool of inputs, the held-out rows whose question is in it."""
    questions = [(row.id, normalised(row.input)) for row in rows]
    overlaps: dict[str, PoolOverlap] = {}
    for name, inputs in pools.items():
        pool = [normalised(text) for text in inputs]
        seen = set(pool)
        found = tuple(row_id for row_id, question in questions if question in seen)
        overlaps[name] = PoolOverlap(inputs=len(pool), found=len(found), row_ids=found)
    return overlaps


def seen_inputs(run: RunDirectory) -> dict[str, list[str]]:
    """The inputs of every sample the run scored and trained on, from the artifacts of its finished stages."""
    pools: dict[str, list[str]] = {}
    for name, stage, artifact in [
        ("scoring", Stage.ADAPT, "samples.jsonl"),
        ("training", Stage.SELECT, "selected.jsonl"),
    ]:
        directory = run.stage(stage)
        if directory.is_done():
            pools[name] = [sample.input for sample in directory.read_records(artifact, Sample)]
    return pools
