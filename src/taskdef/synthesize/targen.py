"""TarGEN (arXiv 2310.17876): four steps and no seed examples.

    1. contexts: settings in which inputs of the task arise                              [contexts]
    2. instance seeds for each context: what an input can be built on                    [seeds]
    3. label-constrained instances: seed + label -> an input for which the label is right    [constrain]
    4. self-correction: input + output -> the output, relabelled where it was wrong      [correct]

The paper writes its prompts by hand for each of SuperGLUE's tasks; here the definition takes their place. Its last step
asks for a label and a reason; here for a whole output, in which both stand. Labels and duplicates are then settled by
vote and screen, as for every method. Contexts are gone round, and in each of them the labels, so that every label is as
frequent as the others, over all and in every context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from taskdef.config import SynthesizeConfig
from taskdef.errors import InstructorError
from taskdef.instruct.label import LabelRequest
from taskdef.instruct.protocol import DraftFailed, Instructor
from taskdef.instruct.writing import TARGEN
from taskdef.records import TaskDefinition
from taskdef.synthesize.asking import Shared, Steps, nth
from taskdef.synthesize.generate import Plan

CONTEXTS, SEEDS, CONSTRAIN, CORRECT = TARGEN


@dataclass(frozen=True)
class TargenPlan(Plan):
    """A context, a place among its instance seeds, and the label that the instance is written for."""

    context: int
    seed_number: int
    label: str
    """Empty where the instance is written without one."""


class Targen:
    """Draft i is an instance of a context, an instance seed and a label that follow from i."""

    def __init__(self, definition: TaskDefinition, config: SynthesizeConfig, *, instructor: Instructor) -> None:
        self._settings = config.targen
        self._steps = Steps(definition, instructor, temperature=config.temperature)
        self._labels = definition.answer.choices if config.targen.labels == "choices" else ()
        self._instructor = instructor.name
        self._contexts: list[str] = []
        self._seeds: Shared[tuple[int, int], list[str]] = Shared(self._ask_for_seeds)

    async def begin(self) -> None:
        """Step 1, which all others need. Raises InstructorError where no context comes back."""
        try:
            contexts = await self._steps.items(CONTEXTS, count=self._settings.contexts)
        except DraftFailed as failure:
            raise InstructorError(
                f"{self._instructor}: named no contexts for targen: {failure.detail}",
                next_step="name another instructor, or --set synthesize.method=knowledge-guided",
            ) from None
        self._contexts = contexts[: self._settings.contexts]

    def plan(self, index: int) -> TargenPlan:
        """Context and label of draft ``index``; ``begin`` has been called."""
        seed_number, context = divmod(index, len(self._contexts))
        label = self._labels[(context + seed_number) % len(self._labels)] if self._labels else ""
        return TargenPlan(index, None, (), context, seed_number, label)

    async def write(self, plan: Plan) -> LabelRequest:
        """Steps 2 to 4. Raises DraftFailed."""
        assert isinstance(plan, TargenPlan)
        context = self._contexts[plan.context]
        number, place = divmod(plan.seed_number, self._settings.seeds)
        seed = nth(await self._seeds.get((plan.context, number)), place, SEEDS, self._settings.seeds)
        draft = await self._steps.draft(CONSTRAIN, index=plan.index, context=context, seed=seed, label=plan.label)
        corrected = await self._steps.output(CORRECT, draft=draft)
        steps = {"context": context, "seed": seed} | ({"label": plan.label} if plan.label else {})
        return LabelRequest(id=plan.id, draft=replace(draft, solution=corrected), steps=steps)

    async def _ask_for_seeds(self, key: tuple[int, int]) -> list[str]:
        context, number = key
        count = self._settings.seeds
        return await self._steps.items(SEEDS, index=number, context=self._contexts[context], count=count)
