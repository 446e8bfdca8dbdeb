"""SynthLLM (arXiv 2503.19551, sections 4.2 and 4.3): three levels of questions about documents, then their answers.

    K(d) = topics and key concepts of document d                                         [concepts]
    level 1: d -> questions that stand in d, and new ones inspired by it                 [questions]
    level 2: d, K(d) -> questions, each for a random combination out of K(d)             [questions]
    level 3: a combination K' from random walks over the graph of all documents' concepts,
             the two documents with concepts most like K' -> questions, each for a combination out of K'    [questions]
    each question -> its solution, from the question alone                               [solve]

The documents are the passages that retrieval ranks first, in place of the paper's filter for pages of one domain. The
paper does not verify answers; here they go to the vote like all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskdef.config import SynthesizeConfig
from taskdef.instruct.draft_form import as_text
from taskdef.instruct.label import LabelRequest
from taskdef.instruct.lists import read_lists, read_objects
from taskdef.instruct.protocol import Draft, DraftFailed, Instructor
from taskdef.instruct.writing import SYNTHLLM, levels_of, questions_of
from taskdef.progress import Progress
from taskdef.records import DropReason, Passage, TaskDefinition
from taskdef.synthesize.asking import Shared, Steps, is_cut, nth, unreadable
from taskdef.synthesize.concept_graph import ConceptGraph, Concepts
from taskdef.synthesize.generate import Plan

CONCEPTS, QUESTIONS, SOLVE = SYNTHLLM


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
CONCEPTS_SCHEMA = _object(topics=_TEXTS, concepts=_TEXTS)
LEVEL_1_SCHEMA = _object(
    questions={
        "type": "array",
        "items": _object(question=_TEXT, origin={"type": "string", "enum": ["original", "new"]}),
    }
)
COMBINATION_SCHEMA = _object(questions={"type": "array", "items": _object(concepts=_TEXTS, question=_TEXT)})


@dataclass(frozen=True)
class SynthllmPlan(Plan):
    """One question out of a request for several."""

    level: int
    request: int
    """Number of the request among those of its level."""
    place: int
    """Which of the request's questions."""
    documents: tuple[int, ...]
    """One document, or on level 3 two; none where level 3 has nothing to combine."""
    given: Concepts
    """What the questions are to combine; empty on level 1."""


class Synthllm:
    """Drafts take the levels in turn; each level goes round its documents, or its combinations."""

    def __init__(
        self,
        definition: TaskDefinition,
        passages: Sequence[Passage],
        config: SynthesizeConfig,
        *,
        instructor: Instructor,
        seed: int,
        progress: Progress,
    ) -> None:
        self._config = config
        self._steps = Steps(definition, instructor, temperature=config.temperature)
        first = passages[: config.synthllm.documents]
        self._documents = [p.model_copy(update={"text": p.text[: config.passage_characters]}) for p in first]
        self._levels = levels_of(config)
        self._seed = seed
        self._progress = progress
        self._concepts: list[Concepts | DraftFailed] = []
        self._graph = ConceptGraph([])
        self._requests: Shared[_Request, list[dict[str, Any]]] = Shared(self._ask_for_questions)

    async def begin(self) -> None:
        """Extract every document's concepts, and build the graph; on level 1 alone nothing is asked."""
        if self._levels == (1,):
            return
        self._concepts = await asyncio.gather(*map(self._extract, self._documents))
        known = [found for found in self._concepts if isinstance(found, Concepts)]
        self._graph = ConceptGraph([found if isinstance(found, Concepts) else Concepts() for found in self._concepts])
        without = len(self._concepts) - len(known)
        self._progress.line(
            f"{len(self._graph.topics)} topics and their key concepts from {len(known)} documents"
            + (f"; {without} gave none that could be read" if without else "")
        )

    def plan(self, index: int) -> SynthllmPlan:
        """Level, documents and concepts of draft ``index``; ``begin`` has been called."""
        number, turn = divmod(index, len(self._levels))
        level = self._levels[turn]
        request, place = divmod(number, questions_of(self._config, level))
        given = Concepts()
        documents: tuple[int, ...] = (request % len(self._documents),)
        if level == 2 and isinstance(found := self._concepts[documents[0]], Concepts):
            given = found
        if level == 3:
            documents = ()
            if self._graph.topics:
                given = self._graph.combination(request, seed=self._seed)
                documents = tuple(self._graph.closest(given))
        passage = self._documents[documents[0]] if documents else None
        return SynthllmPlan(index, passage, (), level, request, place, documents, given)

    async def write(self, plan: Plan) -> LabelRequest:
        """A question and its solution. Raises DraftFailed."""
        assert isinstance(plan, SynthllmPlan)
        asked = questions_of(self._config, plan.level)
        request = _Request(plan.level, plan.request, plan.documents, plan.given)
        chosen = nth(await self._requests.get(request), plan.place, QUESTIONS, asked)
        question = as_text(chosen["question"])
        solution = await self._steps.output(SOLVE, temperature=self._config.vote_temperature, question=question)
        steps = {"level": str(plan.level)}
        if plan.level == 1:
            steps["origin"] = as_text(chosen.get("origin")) or "new"
        else:
            steps["concepts"] = "; ".join(as_text(chosen.get("concepts")).splitlines())
        if len(plan.documents) > 1:
            steps["passage 2"] = self._documents[plan.documents[1]].id
        return LabelRequest(
            id=plan.id,
            draft=Draft(question, solution),
            passage_id=plan.passage.id if plan.passage else None,
            domain=plan.passage.domain if plan.passage else None,
            steps=steps,
        )

    async def _extract(self, document: Passage) -> Concepts | DraftFailed:
        try:
            response = await self._steps.response(CONCEPTS, CONCEPTS_SCHEMA, text=document.text)
        except DraftFailed as failure:
            return failure
        lists = read_lists(response.text, ("topics", "concepts"))
        found = Concepts(lists["topics"], lists["concepts"]) if lists else Concepts()
        return found or unreadable(CONCEPTS, "no topics or key concepts", response)

    async def _ask_for_questions(self, request: _Request) -> list[dict[str, Any]]:
        if not request.documents:
            raise DraftFailed(DropReason.UNPARSEABLE, f"{CONCEPTS}: no document has a topic to combine concepts from")
        if request.level == 2 and isinstance(failed := self._concepts[request.documents[0]], DraftFailed):
            raise failed
        response = await self._steps.response(
            QUESTIONS,
            LEVEL_1_SCHEMA if request.level == 1 else COMBINATION_SCHEMA,
            # documents are gone round: the same ones again are another request
            index=request.number if request.level == 3 else request.number // len(self._documents),
            level=request.level,
            count=questions_of(self._config, request.level),
            documents=[self._documents[place].text for place in request.documents],
            topics=request.given.topics,
            concepts=request.given.concepts,
        )
        if found := read_objects(response.text, "question", cut=is_cut(response)):
            return found
        raise unreadable(QUESTIONS, "no question", response)


@dataclass(frozen=True)
class _Request:
    """A request for questions, as the drafts that share it know it."""

    level: int
    number: int
    documents: tuple[int, ...]
    given: Concepts
