"""Stage 2, synthesize: drafts, screened, labelled by vote, until there are enough (paper section 3.1)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from taskdef.config import SynthesizeConfig
from taskdef.errors import InstructorError
from taskdef.instruct.label import LabelRequest, label_drafts
from taskdef.instruct.protocol import DraftFailed, Instructor
from taskdef.instruct.stream import stream_labelled
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Drop, Passage, Sample, Stage, TaskDefinition
from taskdef.screen.screen import Screen
from taskdef.synthesize.generate import Plan
from taskdef.synthesize.method import load_method
from taskdef.synthesize.pattern import find_pattern
from taskdef.verify.isolated import Verifier

_DETAIL = 400
_SHORT_DETAIL = 200


@dataclass
class Tally:
    """How many drafts became what."""

    samples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first_drop: Drop | None = None

    def count(self, outcome: Sample | Drop) -> None:
        if isinstance(outcome, Sample):
            self.samples += 1
        else:
            self.dropped[outcome.reason.value] += 1
            self.first_drop = self.first_drop or outcome

    @property
    def drafts(self) -> int:
        """Drafts asked for and decided."""
        return self.samples + self.dropped.total()

    def drops_by_reason(self) -> dict[str, int]:
        """How many drafts were lost to each reason, the most frequent first."""
        return dict(self.dropped.most_common())

    def drops_text(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common()) or "none"


@dataclass(frozen=True)
class Synthesis:
    """What the stage made, for callers that want it in memory."""

    samples: tuple[Sample, ...]
    """In the order of their drafts; never more than ``config.samples``."""
    drops: tuple[Drop, ...]
    """One for each draft that is no sample, in the order of the drafts."""
    pattern: str

    @property
    def drafts(self) -> int:
        """Drafts asked for."""
        return len(self.samples) + len(self.drops)


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
    """The pattern, then all of ``stream_samples``. Raises as that does."""
    pattern = await find_pattern(definition, config, instructor=instructor)
    outcomes = [
        outcome
        async for outcome in stream_samples(
            definition,
            passages,
            config,
            pattern=pattern,
            instructor=instructor,
            verifier=verifier,
            test_inputs=test_inputs,
            seed=seed,
            progress=progress,
        )
    ]
    samples = tuple(outcome for outcome in outcomes if isinstance(outcome, Sample))
    return Synthesis(samples, tuple(outcome for outcome in outcomes if isinstance(outcome, Drop)), pattern)


async def stream_samples(
    definition: TaskDefinition,
    passages: Sequence[Passage],
    config: SynthesizeConfig,
    *,
    pattern: str,
    instructor: Instructor,
    verifier: Verifier,
    test_inputs: Sequence[str],
    seed: int,
    progress: Progress | None = None,
    limit: int | None = None,
    written: Callable[[Plan, LabelRequest | Drop], None] = lambda plan, outcome: None,
) -> AsyncIterator[Sample | Drop]:
    """A sample or a drop for each draft, in the order of the drafts, as they are decided.

    Asks for as many drafts as samples are missing, round by round, up to ``max_draft_factor`` x ``samples`` drafts.
    Inside a round, drafts are written, screened and voted on at the same time (see instruct/stream.py); the outcome is
    the same in whatever order the calls return.

    ``limit`` stops after that many samples: the drafts are the first of those that ``config.samples`` asks for, so that
    a full run later asks for the same ones. Then it is no error that no draft became a sample. ``written`` is called
    with each plan and what was written by it, before that is screened.

    Raises InstructorError where the instructor cannot be used, or not one draft became a sample; ConfigError where
    ``method`` needs what is not there.
    """
    progress = progress or SilentProgress()
    method = load_method(
        definition, passages, config, pattern=pattern, instructor=instructor, seed=seed, progress=progress
    )
    await method.begin()
    screen = Screen(
        test_inputs,
        definition.demos,
        near_duplicate_similarity=config.near_duplicate_similarity,
        test_overlap=config.test_overlap,
    )
    tally = Tally()
    wanted = config.samples if limit is None else min(limit, config.samples)
    most_drafts, asked = math.floor(config.max_draft_factor * wanted), 0

    async def write(plan: Plan) -> LabelRequest | Drop:
        outcome: LabelRequest | Drop
        try:
            outcome = await method.write(plan)
        except DraftFailed as failure:
            outcome = Drop(
                reason=failure.reason,
                stage=Stage.SYNTHESIZE,
                id=plan.id,
                passage_id=plan.passage.id if plan.passage else None,
                detail=failure.detail[:_DETAIL],
            )
        written(plan, outcome)
        return outcome

    async def label(requests: list[LabelRequest]) -> list[Sample | Drop]:
        return await label_drafts(
            definition,
            requests,
            instructor=instructor,
            verifier=verifier,
            votes=config.votes,
            vote_temperature=config.vote_temperature,
            min_vote_share=config.min_vote_share,
            seed=seed,
            stage=Stage.SYNTHESIZE,
            decided=progress.advance,
        )

    while tally.samples < wanted and asked < most_drafts:
        missing = min(wanted - tally.samples, most_drafts - asked)
        plans = [method.plan(index) for index in range(asked, asked + missing)]
        asked += missing
        progress.start("drafts", total=len(plans))
        async for outcome in stream_labelled(
            plans,
            write=write,
            screen=screen,
            label=label,
            stage=Stage.SYNTHESIZE,
            decided=progress.advance,
            instructor=instructor,
        ):
            tally.count(outcome)
            yield outcome
        progress.finish()
    progress.line(f"{tally.samples} samples of {wanted} wanted from {asked} drafts; dropped: {tally.drops_text()}")
    if tally.first_drop is not None and not tally.samples and limit is None:
        first = tally.first_drop
        raise InstructorError(
            f"{instructor.name}: none of {asked} drafts became a sample ({tally.drops_text()}); "
            f"the first: {first.reason.value}: {first.detail[:_SHORT_DETAIL]}",
            next_step="see what the instructor writes, with the same TASK and options: taskdef preview TASK",
        )
