"""An instructor that is looked at while it works: its rewrites and votes are remembered, for showing them."""

from __future__ import annotations

from typing import Any, Literal

from taskdef.instruct.chat import ChatResponse
from taskdef.instruct.protocol import Draft, Instructor, Spending
from taskdef.records import Demo, Origin, Passage, Relevance, Sample, TaskDefinition


class WatchedInstructor:
    """Passes everything on to an instructor and remembers rewrites and votes (of drafts the stage tells)."""

    def __init__(self, instructor: Instructor) -> None:
        self._instructor = instructor
        self.name = instructor.name
        self.labels_by_construction = instructor.labels_by_construction
        self.meter = instructor.meter
        self.drafts: dict[str, Draft] = {}
        """Rewrites, by the id that their sample or drop has."""
        self.votes: dict[str, list[str]] = {}
        """Further answers by input."""

    async def keywords(self, definition: TaskDefinition) -> list[str]:
        return await self._instructor.keywords(definition)

    async def pattern(self, definition: TaskDefinition) -> str:
        return await self._instructor.pattern(definition)

    async def generate(
        self,
        definition: TaskDefinition,
        *,
        passage: Passage | None,
        pattern: str,
        demos: tuple[Demo, ...],
        index: int,
        temperature: float,
    ) -> Draft:
        return await self._instructor.generate(
            definition, passage=passage, pattern=pattern, demos=demos, index=index, temperature=temperature
        )

    async def answer(
        self, definition: TaskDefinition, sample_input: str, *, count: int, temperature: float
    ) -> list[str]:
        answers = await self._instructor.answer(definition, sample_input, count=count, temperature=temperature)
        self.votes[sample_input] = answers
        return answers

    async def rewrite(
        self,
        definition: TaskDefinition,
        sample: Sample,
        direction: Literal[Origin.HARDER, Origin.EASIER],
        *,
        pattern: str,
        temperature: float,
    ) -> Draft:
        draft = await self._instructor.rewrite(definition, sample, direction, pattern=pattern, temperature=temperature)
        self.drafts[f"{sample.id}-{direction.value}"] = draft
        return draft

    async def grade(self, definition: TaskDefinition, passage: Passage) -> Relevance | None:
        return await self._instructor.grade(definition, passage)

    async def complete(
        self,
        definition: TaskDefinition,
        purpose: str,
        prompt: str,
        *,
        schema: dict[str, Any],
        temperature: float,
        index: int = 0,
    ) -> ChatResponse:
        return await self._instructor.complete(
            definition, purpose, prompt, schema=schema, temperature=temperature, index=index
        )

    def spending(self) -> Spending:
        return self._instructor.spending()

    @property
    def in_flight(self) -> int:
        return self._instructor.in_flight

    async def close(self) -> None:
        await self._instructor.close()
