"""``procedural:SPEC``: an instructor that is a program, over reasoning-gym's generators.

Its labels are right by construction, it costs nothing, and a harder or easier version of a sample is one step of one
attribute in the generator's own curriculum. Where SPEC names several generators, the passage decides which of them
writes a sample: the one whose name and description share most words with it. So what retrieval finds decides what
the samples are about, as with a language model.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from taskdef.errors import DefinitionError, InstructorError
from taskdef.instruct.chat import ChatResponse
from taskdef.instruct.generators import Generator, parse_generators, speak_signs
from taskdef.instruct.meter import Meter
from taskdef.instruct.protocol import Draft, DraftFailed, Spending
from taskdef.instruct.words import content_words, stems
from taskdef.records import Demo, DropReason, Origin, Passage, Relevance, Sample, TaskDefinition
from taskdef.verify.read import render_answer

_SEED_SPACE = 2**32 - 2**20
"""numpy takes seeds below 2**32; the margin leaves room for the positions added to a seed."""
_REWRITE_TRIES = 8
"""Positions looked at for a rewrite that differs from its parent."""


class ProceduralInstructor:
    """Writes samples with reasoning-gym.

    ``Draft.level`` maps ``generator.attribute`` to its level. Rewrites find their generator there.
    """

    labels_by_construction = True
    meter: Meter | None = None
    """Nothing is paid."""

    def __init__(self, specification: str, *, seed: int) -> None:
        """Read the specification (see generators.py). Raises InstructorError where a part of it is wrong."""
        self.name = f"procedural:{specification}"
        self.generators = parse_generators(specification)
        names = [generator.name for generator in self.generators]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InstructorError(f"{self.name}: {twice} is named twice", next_step="name each generator once")
        self._seed = seed
        self._solutions: dict[str, str] = {}
        self._drafts = 0

    async def keywords(self, definition: TaskDefinition) -> list[str]:
        """The words of the definition's name and description, then those of the generator that fits them best.

        Not those of every generator: a query made of all of them would find passages for generators that the task
        does not ask for.
        """
        own = content_words(f"{definition.name.replace('_', ' ').replace('-', ' ')} {definition.description}")
        best = self._best_generator(" ".join(own), index=0)
        return list(dict.fromkeys([*own, *content_words(best.name.replace("_", " "))]))

    async def pattern(self, definition: TaskDefinition) -> str:
        """A program has no use for a pattern."""
        return ""

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
        """One question at the start level, by the generator that the passage is about (none: in turn by index)."""
        if passage is None:
            generator = self.generators[index % len(self.generators)]
        else:
            generator = self._best_generator(passage.text, index)
        seed = self._derive("generate", generator.name, index) % _SEED_SPACE
        return self._draft(definition, generator, generator.start, seed)

    async def answer(
        self, definition: TaskDefinition, sample_input: str, *, count: int, temperature: float
    ) -> list[str]:
        """``count`` copies of the solution that came with an input; none for an input this process did not write."""
        solution = self._solutions.get(sample_input)
        return [] if solution is None else [solution] * count

    async def rewrite(
        self,
        definition: TaskDefinition,
        sample: Sample,
        direction: Literal[Origin.HARDER, Origin.EASIER],
        *,
        pattern: str,
        temperature: float,
    ) -> Draft:
        """A question one level up (or down) in one attribute, chosen by the sample's id.

        Raises DraftFailed(NO_REWRITE) at the end of the scale and for generators without a curriculum.
        """
        generator, levels = self._place(sample)
        step = 1 if direction is Origin.HARDER else -1
        movable = generator.movable(levels, step)
        if not movable:
            raise DraftFailed(DropReason.NO_REWRITE, f"{generator.name} has no {direction.value} level")
        attribute = movable[self._derive(direction.value, "attribute", sample.id) % len(movable)]
        moved = {**levels, attribute: levels[attribute] + step}
        seed = self._derive(direction.value, generator.name, sample.id) % _SEED_SPACE
        for position in range(_REWRITE_TRIES):
            draft = self._draft(definition, generator, moved, seed, position)
            if draft.input != sample.input:
                return draft
        raise DraftFailed(DropReason.NO_REWRITE, f"{generator.name} gives the same question at {moved}")

    async def grade(self, definition: TaskDefinition, passage: Passage) -> Relevance | None:
        """Relevant where the passage leads to the generator that fits the task best, irrelevant elsewhere."""
        found = frozenset(stems(speak_signs(passage.text)))
        best = self._best_generator(" ".join(await self.keywords(definition)), index=0)
        fits = bool(found & best.words) and self._best_generator(passage.text, index=0) is best
        return Relevance.RELEVANT if fits else Relevance.IRRELEVANT

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
        """A program cannot be asked in words: always raises InstructorError."""
        raise InstructorError(
            f"{self.name}: is a program, and cannot be asked in words for {purpose}",
            next_step="--set synthesize.method=knowledge-guided, or a language model: --instructor openai:MODEL",
        )

    def spending(self) -> Spending:
        """Nothing is sent anywhere; drafts count as calls so that a plan can be compared with what was done."""
        return Spending(calls=self._drafts)

    @property
    def in_flight(self) -> int:
        """Nothing is ever under way."""
        return 0

    async def close(self) -> None:
        """Nothing to release."""

    def _draft(
        self, definition: TaskDefinition, generator: Generator, levels: dict[str, int], seed: int, position: int = 0
    ) -> Draft:
        self._drafts += 1
        try:
            made = generator.make(levels, seed, position)
        except Exception as error:  # each generator fails in its own way; the caller counts the draft as failed
            detail = f"{generator.name} at {levels}: {type(error).__name__}: {error}"
            raise DraftFailed(DropReason.INSTRUCTOR_FAILED, detail) from error
        try:
            solution = render_answer(definition.answer, made.answer)
        except DefinitionError as error:  # this generator's kind of answer does not suit the task: so, no sample
            raise DraftFailed(DropReason.GOLD_FAILS, f"{generator.name}: {error.message}") from None
        self._solutions[made.question] = solution
        named = {f"{generator.name}.{attribute}": level for attribute, level in levels.items()}
        return Draft(input=made.question, solution=solution, level=named)

    def _place(self, sample: Sample) -> tuple[Generator, dict[str, int]]:
        """The generator that wrote a sample, and the sample's levels in it."""
        for generator in self.generators:
            prefix = f"{generator.name}."
            levels = {k.removeprefix(prefix): v for k, v in sample.level.items() if k.startswith(prefix)}
            if levels:
                return generator, levels
        raise DraftFailed(DropReason.NO_REWRITE, "its generator has no difficulty levels")

    def _best_generator(self, text: str, index: int) -> Generator:
        """The generator that shares most words with the text; a word that several have counts less. Ties by index."""
        found = frozenset(stems(speak_signs(text)))
        owners = {word: sum(word in g.words for g in self.generators) for word in found}
        scores = [sum(1 / owners[word] for word in found & g.words) for g in self.generators]
        best = [g for g, score in zip(self.generators, scores, strict=True) if score == max(scores)]
        return best[index % len(best)]

    def _derive(self, *parts: object) -> int:
        """A number that follows from the run's seed and ``parts``.

        reasoning-gym adds an item's index to the seed, so that neighbouring seeds share almost all items; hashing
        puts the seeds of any two drafts far apart.
        """
        text = "\x1f".join(str(part) for part in (self._seed, *parts))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
