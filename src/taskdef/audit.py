"""The audit of a run's passages: how many are of any use, found out before samples are paid for.

Like pipeline.py and preview/ it stands above the stages: it needs retrieve's passages and evaluate's interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from taskdef.errors import LibraryError
from taskdef.evaluate.statistics import wilson_interval
from taskdef.instruct.load import close_instructor, load_instructor
from taskdef.pipeline import run_stage, write_report
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Grade, Passage, Relevance, Stage, TaskDefinition
from taskdef.retrieve.audit import BY_HAND, Audit, choose_passages, grade_passages, sum_up
from taskdef.stopping import answers_kept
from taskdef.store import RunDirectory

GRADES_FILE, AUDIT_FILE = "grades.jsonl", "audit.json"
"""In retrieve's folder; grades are appended one by one."""

GradeByHand = Callable[[TaskDefinition, Sequence[Passage], Callable[[Passage, Relevance], None]], None]


def audit_passages(
    run: RunDirectory, *, grades: int, by_hand: GradeByHand | None = None, progress: Progress | None = None
) -> Audit:
    """Have a random sample of the passages that the first drafts are written from graded for relevance; retrieves
    first where that is not done.

    ``grades`` is how many there should be at the end: those that the same grader gave before count, and no response is
    paid for twice. ``by_hand`` asks a person in the instructor's place. Writes grades.jsonl and audit.json into
    retrieve's folder, and the report anew. Raises LibraryError where there are no passages, RunError where another
    process works on the run, InstructorError where the instructor cannot be used.
    """
    progress = progress or SilentProgress()
    directory, settings = run.stage(Stage.RETRIEVE), run.config.synthesize
    if not directory.is_done():
        run_stage(run, Stage.RETRIEVE, progress)
    with run.locked():
        passages = directory.read_records("passages.jsonl", Passage)[: settings.samples]
        if not passages:
            raise LibraryError(f"{run.path}: no passages to audit", next_step="a new run with --passages PATH")
        grader = BY_HAND if by_hand is not None else run.config.instructor
        given = directory.read_partial(GRADES_FILE, Grade)
        known = {grade.passage_id for grade in given if grade.grader == grader and grade.relevance is not None}
        chosen = choose_passages(passages, grades, run.config.seed, settings.passage_characters)
        missing = [passage for passage in chosen if passage.id not in known]

        def keep(passage: Passage, relevance: Relevance | None) -> None:
            grade = Grade(passage_id=passage.id, grader=grader, relevance=relevance)
            directory.append_records(GRADES_FILE, [grade])

        if by_hand is not None:
            by_hand(run.definition, missing, keep)
        else:
            relevances = asyncio.run(_by_instructor(run, missing, progress)) if missing else []
            for passage, relevance in zip(missing, relevances, strict=True):
                keep(passage, relevance)
        audit = sum_up(directory.read_partial(GRADES_FILE, Grade), grader, len(passages))
        if audit.graded:
            low, high = wilson_interval(audit.usable, audit.graded)
            audit = replace(audit, low=low, high=high)
        directory.write_json(AUDIT_FILE, audit.to_json())
        write_report(run)
    return audit


async def _by_instructor(run: RunDirectory, passages: Sequence[Passage], progress: Progress) -> list[Relevance | None]:
    instructor = load_instructor(
        run.config.instructor,
        ledger_path=run.ledger_path,
        config=run.config.instruct,
        seed=run.config.seed,
        say=progress.line,
    )
    with answers_kept(lambda: instructor.in_flight):
        try:
            return await grade_passages(run.definition, passages, instructor=instructor, progress=progress)
        finally:
            await close_instructor(instructor, progress)
