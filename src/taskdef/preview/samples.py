"""One previewed sample on its way: passage, question, votes, the base model's verdict, the harder or easier version."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from taskdef.preview.take import ATTEMPTS, Preview
from taskdef.records import Attempt, Drop, DropReason, Sample, Verdict

_PASSAGE, _QUESTION, _OUTPUT, _RAW = 280, 1200, 400, 800
"""Letters that are shown of each; what the instructor wrote in place of a sample is shown longest."""
_MOST_ANSWERS = 5
_LABEL = 12
_DIRECTIONS = {True: "harder", False: "easier"}


def print_draft(console: Console, preview: Preview, outcome: Sample | Drop) -> None:
    """Print one draft with all that became of it."""
    console.print()
    console.print(Text(f"draft {outcome.id}", style="bold"))
    lines = list(_draft_lines(preview, outcome))
    if not sys.stdout.isatty():
        for label, text in lines:
            print(f"  {label:<{_LABEL}}{text.replace(chr(10), chr(10) + ' ' * (_LABEL + 2))}")
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in lines:
        grid.add_row(Text(label), Text(text))
    console.print(Padding(grid, (0, 0, 0, 2), expand=False))


def _draft_lines(preview: Preview, outcome: Sample | Drop) -> Iterator[tuple[str, str]]:
    plan = preview.plans[outcome.id]
    if plan.passage is not None:
        yield "passage", f"{plan.passage.source}: {clean(' '.join(plan.passage.text.split()), _PASSAGE)}"
    if plan.demos:
        yield "demos", str(len(plan.demos))
    for step, text in preview.steps.get(outcome.id, {}).items():
        yield step, clean(text, _PASSAGE)
    yield from _sample_lines(preview, outcome, "question")
    if isinstance(outcome, Drop):
        return
    attempt = preview.attempts.get(outcome.id)
    if attempt is not None:
        yield "base model", _verdict_text(attempt)
        scored = preview.scored.get(outcome.id, [])
        solved = sum(each.verdict is Verdict.CORRECT for each in scored)
        yield "", f"{solved} of {ATTEMPTS} attempts at {preview.config.select.temperature} correct"
        if outcome.id in preview.rewrites:
            direction = _DIRECTIONS[attempt.verdict is Verdict.CORRECT]
            yield from _sample_lines(preview, preview.rewrites[outcome.id], direction)
    elif too_long := [drop for drop in preview.too_long if drop.id == outcome.id]:
        yield "base model", f"left out, {too_long[0].reason.value}: {clean(too_long[0].detail, _RAW)}"


def _sample_lines(preview: Preview, outcome: Sample | Drop, label: str) -> Iterator[tuple[str, str]]:
    draft = preview.drafts.get(outcome.id)
    if draft is not None:
        yield label, clean(draft.input, _QUESTION)
        solution = outcome.solution if isinstance(outcome, Sample) else draft.solution
        yield "solution", clean(solution, _OUTPUT)
        was_voted_on = isinstance(outcome, Sample) or outcome.reason is DropReason.NO_MAJORITY
        if was_voted_on and (votes := preview.votes.get(draft.input)):
            yield "votes", _votes_text(votes)
    if isinstance(outcome, Sample):
        label_text = "right by construction" if not outcome.vote_count else f"{outcome.votes} of {outcome.vote_count}"
        yield "label", f"{clean(outcome.answer)} ({label_text})"
    else:
        first = "dropped" if draft is not None or label == "question" else label
        yield first, f"{outcome.reason.value}: {clean(outcome.detail, _RAW)}"


def _votes_text(votes: Sequence[tuple[str | None, int]]) -> str:
    parts = [f"{'unreadable' if answer is None else clean(answer, 60)} x{count}" for answer, count in votes]
    more = len(parts) - _MOST_ANSWERS
    return ", ".join(parts[:_MOST_ANSWERS]) + (f" and {more} other answers" if more > 0 else "")


def _verdict_text(attempt: Attempt) -> str:
    read = "" if attempt.answer is None else f", read {clean(attempt.answer, 60)}"
    return f"{attempt.verdict.value.upper()}{read}, {attempt.token_count} tokens: {clean(attempt.text, _OUTPUT)}"


def clean(text: str, longest: int = 200) -> str:
    """Without control characters, which could move a terminal's cursor; cut where it is long."""
    cut = text if len(text) <= longest else f"{text[:longest]}…"
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in cut)
