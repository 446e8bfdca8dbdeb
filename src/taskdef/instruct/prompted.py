"""The instructor that is asked in words: prompts in, drafts out, over any chat model and its ledger."""

from __future__ import annotations

from typing import Any, Literal

from taskdef.instruct.chat import ChatFailed, ChatRequest, ChatResponse
from taskdef.instruct.domains import domain_of
from taskdef.instruct.draft_form import ParseFailure
from taskdef.instruct.form import DRAFT_SCHEMA, forced_answer_schema, forced_schema
from taskdef.instruct.grade import GRADE_SCHEMA, read_grade
from taskdef.instruct.meter import Meter
from taskdef.instruct.parse import read_draft, read_keywords, read_output
from taskdef.instruct.protocol import Draft, DraftFailed, Spending
from taskdef.instruct.recorded import RecordedChat, out_of_reach
from taskdef.instruct.rendering import mark, render
from taskdef.instruct.words import content_words
from taskdef.records import Demo, DropReason, Origin, Passage, Relevance, Sample, TaskDefinition

KEYWORDS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"keywords": {"type": "array", "items": {"type": "string"}}},
    "required": ["keywords"],
    "additionalProperties": False,
}
_KEYWORDS_TEMPERATURE = 0.0
_PATTERN_TEMPERATURE = 0.0
_GRADE_TEMPERATURE = 0.0
_DETAIL = 400


class PromptedInstructor:
    """Renders ``prompts/*.jinja``, asks, and reads the responses (paper section 3 and its appendix of prompts)."""

    labels_by_construction = False

    def __init__(self, name: str, chat: RecordedChat, *, max_tokens: int, force_form: bool = False) -> None:
        self.name = name
        self._force_form = force_form
        self._chat = chat
        self._max_tokens = max_tokens

    async def keywords(self, definition: TaskDefinition) -> list[str]:
        """The domain, then its synonyms and sub-topics, in one call.

        A response that holds no list leaves the content words of the description, which are what the instructor was
        to improve on. Raises InstructorError where no response can be had.
        """
        text = await self._ask_once(
            ChatRequest(
                purpose="keywords",
                prompt=render("keywords", definition=definition),
                temperature=_KEYWORDS_TEMPERATURE,
                max_tokens=self._max_tokens,
                schema=KEYWORDS_SCHEMA,
            )
        )
        return read_keywords(text) or content_words(definition.description)

    async def pattern(self, definition: TaskDefinition) -> str:
        """The demos' general form. Raises InstructorError where no response can be had."""
        prompt = render("pattern", definition=definition)
        return (await self._ask_once(ChatRequest("pattern", prompt, _PATTERN_TEMPERATURE, self._max_tokens))).strip()

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
        """One sample from a passage. Raises DraftFailed where there is no response, or none that holds a sample."""
        prompt = render(
            "generate",
            definition=definition,
            passage=passage,
            mark=mark(passage.text) if passage else "",
            pattern=pattern,
            demos=demos,
            domain=domain_of(definition, passage, index),
        )
        schema = self._draft_schema(definition)
        return await self._draft(ChatRequest("generate", prompt, temperature, self._max_tokens, schema, index))

    async def answer(
        self, definition: TaskDefinition, sample_input: str, *, count: int, temperature: float
    ) -> list[str]:
        """``count`` independent outputs; those that failed for good, or that the token limit cut, are left out: #### 12
        may be the beginning of #### 125, and half a solution is no vote."""
        prompt = render("answer", definition=definition, sample_input=sample_input)
        schema = forced_answer_schema(definition.answer, self._max_tokens) if self._force_form else None
        request = ChatRequest("answer", prompt, temperature, self._max_tokens, schema)
        answers = await self._chat.complete_many(request, count)
        whole = [answer.text for answer in answers if answer.finish_reason != "length"]
        return [read_output(text) or text for text in whole] if self._force_form else whole

    async def rewrite(
        self,
        definition: TaskDefinition,
        sample: Sample,
        direction: Literal[Origin.HARDER, Origin.EASIER],
        *,
        pattern: str,
        temperature: float,
    ) -> Draft:
        """A harder or an easier version. Raises DraftFailed as ``generate`` does."""
        prompt = render(
            "rewrite",
            definition=definition,
            sample=sample,
            mark=mark(sample.input),
            harder=direction is Origin.HARDER,
            pattern=pattern,
        )
        schema = self._draft_schema(definition)
        return await self._draft(ChatRequest(direction.value, prompt, temperature, self._max_tokens, schema))

    async def grade(self, definition: TaskDefinition, passage: Passage) -> Relevance | None:
        """The relevance of a passage; None where the request failed for good, or the response holds no grade."""
        prompt = render("grade", definition=definition, passage=passage, mark=mark(passage.text))
        request = ChatRequest("grade", prompt, _GRADE_TEMPERATURE, self._max_tokens, GRADE_SCHEMA)
        try:
            response = await self._chat.complete(request)
        except ChatFailed:
            return None
        return None if response.finish_reason == "length" else read_grade(response.text)

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
        """One response to a prompt of the caller's own; its ``output``, where the schema has one, in the task's form
        where ``instruct.force_form`` says so. Raises ChatFailed."""
        if self._force_form:
            schema = forced_schema(schema, definition.answer, self._max_tokens)
        return await self._chat.complete(ChatRequest(purpose, prompt, temperature, self._max_tokens, schema, index))

    @property
    def drafts_at_once(self) -> int:
        """As many as fill a batch, where answers come in batches (see stream.py)."""
        return self._chat.drafts_at_once

    def spending(self) -> Spending:
        """Calls and tokens of the whole run, earlier processes included."""
        return self._chat.spending()

    @property
    def meter(self) -> Meter | None:
        """What this process's calls come to, by purpose."""
        return self._chat.meter

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._chat.in_flight

    async def close(self) -> None:
        """Take what is under way into the ledger, then close connections and ledger."""
        await self._chat.close()

    def _draft_schema(self, definition: TaskDefinition) -> dict[str, Any]:
        return forced_schema(DRAFT_SCHEMA, definition.answer, self._max_tokens) if self._force_form else DRAFT_SCHEMA

    async def _draft(self, request: ChatRequest) -> Draft:
        try:
            response = await self._chat.complete(request)
        except ChatFailed as failure:
            raise DraftFailed(DropReason.INSTRUCTOR_FAILED, str(failure)) from None
        reading = read_draft(response.text, cut=response.finish_reason == "length")
        if isinstance(reading, ParseFailure):
            raise DraftFailed(DropReason.UNPARSEABLE, f"{reading}: {response.text[:_DETAIL]}")
        return Draft(input=reading[0], solution=reading[1])

    async def _ask_once(self, request: ChatRequest) -> str:
        try:
            return (await self._chat.complete(request)).text
        except ChatFailed as failure:
            raise out_of_reach(self.name, request.purpose, failure) from None
