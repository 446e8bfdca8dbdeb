"""Stage 2, synthesize: drafts from passages, screened, labelled by vote, until there are enough (paper section 3.1)."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from taskdef.config import SynthesizeConfig
from taskdef.errors import InstructorError
from taskdef.instruct.label import LabelRequest, label_drafts
from taskdef.instruct.protocol import Instructor
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Drop, Passage, Sample, Stage, TaskDefinition
from taskdef.screen.screen import Screen
from taskdef.synthesize.generate import Plan, plan_draft, write_draft
from taskdef.synthesize.pattern import find_pattern
from taskdef.verify.isolated import Verifier

_DETAIL = 200


@dataclass(frozen=True)
class Synthesis:
    """What the stage made."""

    samples: tuple[Sample, ...]
    """In the order of their drafts; never more than ``config.samples``."""
    drops: tuple[Drop, ...]
    """One for each draft that is no sample, in the order of the rounds."""
    pattern: str
    drafts: int
    """Drafts asked for: samples + drops."""

    def drops_by_reason(self) -> dict[str, int]:
        """How many drafts were lost to each reason, the most frequent first."""
        return dict(Counter(drop.reason.value for drop in self.drops).most_common())


async def synthesize_samples(
    definition: TaskDefinition,
    passages: Sequence[Passage],
    config: SynthesizeConfig,
    *,
    instructor: Instructor,
    verifier: Verifier,
    test_inputs: Sequence[str],
    seed: int,
    progress: Progress | None = None,
) -> Synthesis:
    """Ask for as many drafts as samples are missing, round by round, up to ``max_draft_factor`` x ``samples`` drafts.

    Every round is screened in the order of its drafts before any vote is paid for. All calls of a round are in flight
    together (the instructor bounds how many), and the result is the same in whatever order they return.

    Raises InstructorError where the instructor cannot be used, or not one draft became a sample.
    """
    progress = progress or SilentProgress()
    pattern = await find_pattern(definition, config, instructor=instructor)
    screen = Screen(
        test_inputs,
        definition.demos,
        near_duplicate_similarity=config.near_duplicate_similarity,
        test_overlap=config.test_overlap,
    )
    samples: list[Sample] = []
    drops: list[Drop] = []
    most_drafts, asked = math.floor(config.max_draft_factor * config.samples), 0
    while len(samples) < config.samples and asked < most_drafts:
        missing = min(config.samples - len(samples), most_drafts - asked)
        plans = [
            plan_draft(definition, passages, config, index=index, seed=seed) for index in range(asked, asked + missing)
        ]
        asked += missing
        candidates, failed = await _write(definition, plans, config, pattern, instructor, progress)
        kept, screened = _sift(screen, candidates)
        labelled = await label_drafts(
            definition,
            kept,
            instructor=instructor,
            verifier=verifier,
            votes=config.votes,
            vote_temperature=config.vote_temperature,
            min_vote_share=config.min_vote_share,
            seed=seed,
            stage=Stage.SYNTHESIZE,
            progress=progress,
        )
        samples += [outcome for outcome in labelled if isinstance(outcome, Sample)]
        drops += sorted(
            [*failed, *screened, *(outcome for outcome in labelled if isinstance(outcome, Drop))],
            key=lambda drop: drop.id,
        )
    synthesis = Synthesis(tuple(samples), tuple(drops), pattern, asked)
    lost = ", ".join(f"{count} {reason}" for reason, count in synthesis.drops_by_reason().items()) or "none"
    progress.line(f"{len(samples)} samples of {config.samples} wanted from {asked} drafts; dropped: {lost}")
    if not samples:
        raise InstructorError(
            f"{instructor.name}: none of {asked} drafts became a sample ({lost}); "
            f"the first: {drops[0].reason.value}: {drops[0].detail[:_DETAIL]}",
            next_step="check that the instructor can do the task: taskdef check TASK, then a run of a few samples "
            "(--set synthesize.samples=5)",
        )
    return synthesis


async def _write(
    definition: TaskDefinition,
    plans: list[Plan],
    config: SynthesizeConfig,
    pattern: str,
    instructor: Instructor,
    progress: Progress,
) -> tuple[list[LabelRequest], list[Drop]]:
    """All drafts of a round, in order: those written and those that failed."""

    async def write(plan: Plan) -> LabelRequest | Drop:
        outcome = await write_draft(definition, plan, config, pattern=pattern, instructor=instructor)
        progress.advance()
        return outcome

    progress.start("drafts", total=len(plans))
    outcomes = await asyncio.gather(*map(write, plans))
    progress.finish()
    candidates = [outcome for outcome in outcomes if isinstance(outcome, LabelRequest)]
    return candidates, [outcome for outcome in outcomes if isinstance(outcome, Drop)]


def _sift(screen: Screen, candidates: list[LabelRequest]) -> tuple[list[LabelRequest], list[Drop]]:
    """Those that pass the screen, and a drop for each that does not."""
    findings = screen.sift([c.draft.input for c in candidates], [c.id for c in candidates])
    kept, drops = [], []
    for candidate, finding in zip(candidates, findings, strict=True):
        if finding is None:
            kept.append(candidate)
        else:
            reason, detail = finding
            drops.append(Drop(reason=reason, stage=Stage.SYNTHESIZE, id=candidate.id, detail=detail))
    return kept, drops
