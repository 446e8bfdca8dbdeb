"""Stage 3: difficulty adaptation (paper section 3.2).

The model that training will start from answers each initial sample once, greedily. Solved samples are rewritten
harder, unsolved ones easier (or into a sub-problem); rewrites are screened and put to the vote like first drafts. All
of initial + harder + easier go on. A verifier error says nothing about difficulty: that sample is not rewritten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from taskdef.config import RunConfig
from taskdef.instruct.label import LabelRequest, label_drafts
from taskdef.instruct.protocol import DraftFailed, Instructor
from taskdef.instruct.stream import stream_labelled
from taskdef.policy.attempts import AttemptFile, Problem, attempt_problems
from taskdef.policy.protocol import Policy
from taskdef.progress import Progress, SilentProgress
from taskdef.records import Attempt, Drop, DropReason, Origin, Sample, Stage, TaskDefinition, Verdict
from taskdef.screen.screen import Screen
from taskdef.verify.isolated import Verifier

_DETAIL = 300
Direction = Literal[Origin.HARDER, Origin.EASIER]


@dataclass(frozen=True)
class Adaptation:
    """What the stage found and made."""

    samples: tuple[Sample, ...]
    """Initial, then rewritten, each in the order of the initial samples."""
    drops: tuple[Drop, ...]
    attempts: tuple[Attempt, ...]
    """One greedy attempt on each initial sample."""

    def summary(self, kept: Sequence[Sample], drops: Sequence[Drop]) -> dict[str, Any]:
        """The figures for the manifest; ``kept`` and ``drops`` also tell of the samples that were too long."""
        verdicts = Counter(attempt.verdict for attempt in self.attempts)
        origins = Counter(sample.origin for sample in kept)
        return {
            "solved": verdicts[Verdict.CORRECT],
            "unsolved": sum(verdicts.values()) - verdicts[Verdict.CORRECT] - verdicts[Verdict.VERIFIER_ERROR],
            "verifier_errors": verdicts[Verdict.VERIFIER_ERROR],
            "kept": len(kept),
            "origins": {origin.value: origins[origin] for origin in Origin},
            "dropped": dict(Counter(drop.reason.value for drop in drops)),
        }


def drop_too_long(samples: Sequence[Sample], policy: Policy, stage: Stage) -> tuple[list[Sample], list[Drop]]:
    """Samples whose prompt leaves room for a full response, and the drops of the others."""
    limit = policy.prompt_limit()
    kept: list[Sample] = []
    drops: list[Drop] = []
    for sample in samples:
        length = policy.prompt_length(sample.input)
        if length <= limit:
            kept.append(sample)
        else:
            detail = f"a prompt of {length} tokens, the limit is {limit}: {sample.input}"
            drops.append(Drop(reason=DropReason.TOO_LONG, stage=stage, id=sample.id, detail=detail[:_DETAIL]))
    return kept, drops


def attempt_greedily(
    policy: Policy,
    samples: Sequence[Sample],
    *,
    verifier: Verifier,
    label: str,
    file: AttemptFile | None = None,
    progress: Progress | None = None,
) -> list[Attempt]:
    """One greedy attempt on each sample: what tells solved from unsolved."""
    return attempt_problems(
        policy,
        [Problem.of(sample) for sample in samples],
        count=1,
        temperature=0.0,
        seed=0,  # greedy: nothing is drawn
        label=label,
        verifier=verifier,
        progress=progress or SilentProgress(),
        file=file,
    )


async def adapt_difficulty(
    definition: TaskDefinition,
    samples: Sequence[Sample],
    attempts: Sequence[Attempt],
    config: RunConfig,
    *,
    instructor: Instructor,
    verifier: Verifier,
    test_inputs: Sequence[str],
    pattern: str,
    progress: Progress | None = None,
) -> Adaptation:
    """Rewrite each sample by its greedy attempt, and label the rewrites.

    With ``adapt.enabled`` off nothing is rewritten; the attempts are kept for the report all the same.
    """
    progress = progress or SilentProgress()
    if not config.adapt.enabled:
        return Adaptation(tuple(samples), (), tuple(attempts))
    directions = {attempt.sample_id: _direction(attempt.verdict) for attempt in attempts}
    wanted = [(sample, direction) for sample in samples if (direction := directions[sample.id]) is not None]
    screen = Screen(
        test_inputs,
        definition.demos,
        near_duplicate_similarity=config.synthesize.near_duplicate_similarity,
        test_overlap=config.synthesize.test_overlap,
    )
    screen.remember([sample.input for sample in samples], [sample.id for sample in samples])

    async def rewrite(plan: tuple[Sample, Direction]) -> LabelRequest | Drop:
        sample, direction = plan
        identity = f"{sample.id}-{direction.value}"
        try:
            draft = await instructor.rewrite(
                definition, sample, direction, pattern=pattern, temperature=config.adapt.temperature
            )
        except DraftFailed as failure:
            return Drop(reason=failure.reason, stage=Stage.ADAPT, id=identity, detail=failure.detail[:_DETAIL])
        return LabelRequest(
            id=identity,
            draft=draft,
            origin=direction,
            parent_id=sample.id,
            passage_id=sample.passage_id,
            domain=sample.domain,
        )

    async def label(requests: list[LabelRequest]) -> list[Sample | Drop]:
        return await label_drafts(
            definition,
            requests,
            stage=Stage.ADAPT,
            instructor=instructor,
            verifier=verifier,
            votes=config.synthesize.votes,
            vote_temperature=config.synthesize.vote_temperature,
            min_vote_share=config.synthesize.min_vote_share,
            seed=config.seed,
            decided=progress.advance,
        )

    progress.start("rewrite", len(wanted))
    outcomes = [
        outcome
        async for outcome in stream_labelled(
            wanted,
            write=rewrite,
            screen=screen,
            label=label,
            stage=Stage.ADAPT,
            decided=progress.advance,
            instructor=instructor,
        )
    ]
    progress.finish()
    rewritten = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
    drops = [outcome for outcome in outcomes if isinstance(outcome, Drop)]
    return Adaptation((*samples, *rewritten), tuple(drops), tuple(attempts))


def _direction(verdict: Verdict) -> Direction | None:
    if verdict is Verdict.VERIFIER_ERROR:
        return None
    return Origin.HARDER if verdict is Verdict.CORRECT else Origin.EASIER
