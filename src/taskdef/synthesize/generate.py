"""One draft: which passage and which demos its prompt gets, and the call that writes it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from taskdef.config import SynthesizeConfig
from taskdef.instruct.domains import domain_of
from taskdef.instruct.label import LabelRequest
from taskdef.instruct.protocol import DraftFailed, Instructor
from taskdef.records import Demo, Drop, Passage, Stage, TaskDefinition

_DETAIL = 400


@dataclass(frozen=True)
class Plan:
    """What draft ``index`` is to be written from. Follows from the seed and the index alone."""

    index: int
    passage: Passage | None
    demos: tuple[Demo, ...]

    @property
    def id(self) -> str:
        """Id of the draft and of the sample it may become."""
        return f"s{self.index:05d}"


def plan_draft(
    definition: TaskDefinition, passages: Sequence[Passage], config: SynthesizeConfig, *, index: int, seed: int
) -> Plan:
    """Passages in rank order, again from the first after the last, each cut to ``passage_characters``.

    Demos join with probability min(1, demos / samples wanted), ``demos_per_prompt`` at a time (paper section 3.1): few
    demos then shape few prompts, and the samples do not all look like them.
    """
    passage = None
    if passages:
        chosen = passages[index % len(passages)]
        passage = chosen.model_copy(update={"text": chosen.text[: config.passage_characters]})
    rng = random.Random(f"{seed}/demos/{index}")
    demos: tuple[Demo, ...] = ()
    if rng.random() < len(definition.demos) / config.samples:
        demos = tuple(rng.sample(definition.demos, min(config.demos_per_prompt, len(definition.demos))))
    return Plan(index, passage, demos)


async def write_draft(
    definition: TaskDefinition, plan: Plan, config: SynthesizeConfig, *, pattern: str, instructor: Instructor
) -> LabelRequest | Drop:
    """Have the draft written; a drop where the instructor gave nothing usable."""
    passage_id = plan.passage.id if plan.passage else None
    try:
        draft = await instructor.generate(
            definition,
            passage=plan.passage,
            pattern=pattern,
            demos=plan.demos,
            index=plan.index,
            temperature=config.temperature,
        )
    except DraftFailed as failure:
        detail = failure.detail[:_DETAIL]
        return Drop(reason=failure.reason, stage=Stage.SYNTHESIZE, id=plan.id, passage_id=passage_id, detail=detail)
    return LabelRequest(
        id=plan.id,
        draft=draft,
        passage_id=passage_id,
        domain=domain_of(definition, plan.passage, plan.index),
    )
