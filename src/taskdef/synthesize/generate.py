"""Knowledge-guided drafts: which passage and which demos a prompt gets, and the call that writes one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from taskdef.config import SynthesizeConfig
from taskdef.instruct.domains import domain_of
from taskdef.instruct.label import LabelRequest
from taskdef.instruct.protocol import Instructor
from taskdef.records import Demo, Passage, TaskDefinition


@dataclass(frozen=True)
class Plan:
    """What draft ``index`` is to be written from."""

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

    What a plan holds follows from seed and index alone. Demos join with probability min(1, demos / samples wanted),
    ``demos_per_prompt`` at a time (paper section 3.1): few demos then shape few prompts, and the samples do not all
    look like them.
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


class KnowledgeGuided:
    """The paper's own method (section 3.1): one passage a draft, with the pattern and now and then some demos."""

    def __init__(
        self,
        definition: TaskDefinition,
        passages: Sequence[Passage],
        config: SynthesizeConfig,
        *,
        pattern: str,
        instructor: Instructor,
        seed: int,
    ) -> None:
        self._definition = definition
        self._passages = passages
        self._config = config
        self._pattern = pattern
        self._instructor = instructor
        self._seed = seed

    async def begin(self) -> None:
        """Nothing is asked beforehand."""

    def plan(self, index: int) -> Plan:
        """See ``plan_draft``."""
        return plan_draft(self._definition, self._passages, self._config, index=index, seed=self._seed)

    async def write(self, plan: Plan) -> LabelRequest:
        """Have the draft written. Raises DraftFailed where the instructor gave nothing usable."""
        draft = await self._instructor.generate(
            self._definition,
            passage=plan.passage,
            pattern=self._pattern,
            demos=plan.demos,
            index=plan.index,
            temperature=self._config.temperature,
        )
        return LabelRequest(
            id=plan.id,
            draft=draft,
            passage_id=plan.passage.id if plan.passage else None,
            domain=domain_of(self._definition, plan.passage, plan.index),
        )
