"""Self-Instruct (arXiv 2212.10560, section 2.2): new texts are bootstrapped from a pool that starts with the demos.

    pool = demos' inputs
    repeat: 8 texts of the pool (2 machine-made, 6 of the demos) -> new texts           [bootstrap]
            a new text joins the pool if its ROUGE-L with every text of it is below 0.7
    each new text -> an instance: input first, then output;                              [instance]
                     for classification the label first, then an input for it
    an instance whose output repeats its input is dropped

The method makes instructions for many tasks; here the task is one, so what is bootstrapped are its inputs. Left out,
because the definition says it: asking whether the task is a classification (it is where ``answer.choices`` are given).
Left out, because they are about instructions for any task: limits of length, and words such as "image" or "file". A
label is given to each text in turn, where the paper asks for an instance of every label. Labels and duplicates are
then settled by vote and screen, as for every method.
"""

from __future__ import annotations

import asyncio
import random

from taskdef.config import SynthesizeConfig
from taskdef.instruct.label import LabelRequest
from taskdef.instruct.protocol import DraftFailed, Instructor
from taskdef.instruct.writing import SELF_INSTRUCT
from taskdef.records import DropReason, TaskDefinition
from taskdef.synthesize.asking import Steps, nth
from taskdef.synthesize.generate import Plan
from taskdef.synthesize.rouge import RougePool

BOOTSTRAP, INSTANCE = SELF_INSTRUCT


class SelfInstruct:
    """Draft i is the instance of the i-th bootstrapped text, whether it joined the pool or not."""

    def __init__(
        self, definition: TaskDefinition, config: SynthesizeConfig, *, instructor: Instructor, seed: int
    ) -> None:
        self._settings = config.self_instruct
        self._steps = Steps(definition, instructor, temperature=config.temperature)
        self._labels = definition.answer.choices
        self._demos = [demo.input for demo in definition.demos]
        self._pool = RougePool(self._demos)
        self._seed = seed
        self._turns: list[list[str | DraftFailed]] = []
        self._turn = asyncio.Lock()

    async def begin(self) -> None:
        """Nothing is asked beforehand."""

    def plan(self, index: int) -> Plan:
        """The draft's number is all that is settled beforehand: the pool grows meanwhile."""
        return Plan(index, None, ())

    async def write(self, plan: Plan) -> LabelRequest:
        """Raises DraftFailed."""
        text = await self._bootstrapped(plan.index)
        label = self._labels[plan.index % len(self._labels)] if self._labels else ""
        draft = await self._steps.draft(INSTANCE, index=plan.index, instruction=text, label=label)
        if draft.input.strip() == draft.solution.strip():
            raise DraftFailed(DropReason.UNPARSEABLE, f"the output repeats the input: {draft.input}")
        steps = {"instruction": text} | ({"label": label} if label else {})
        return LabelRequest(id=plan.id, draft=draft, steps=steps)

    async def _bootstrapped(self, index: int) -> str:
        """The text of draft ``index``. Turns follow each other, since each sees what those before it added."""
        turn, place = divmod(index, self._settings.requests * self._settings.new_texts)
        async with self._turn:
            while len(self._turns) <= turn:
                self._turns.append(await self._take_turn(len(self._turns)))
        text = self._turns[turn][place]
        if isinstance(text, DraftFailed):
            raise DraftFailed(text.reason, text.detail)
        return text

    async def _take_turn(self, turn: int) -> list[str | DraftFailed]:
        """As many texts as the turn's requests ask for, or why there is none; those that pass are added to the pool."""
        requests = range(turn * self._settings.requests, (turn + 1) * self._settings.requests)
        found = await asyncio.gather(*map(self._request, requests))
        return [self._admit(text) for texts in found for text in texts]

    async def _request(self, number: int) -> list[str | DraftFailed]:
        rng, settings = random.Random(f"{self._seed}/self-instruct/{number}"), self._settings
        machine_made = self._pool.texts[len(self._demos) :]
        examples = rng.sample(machine_made, min(settings.machine_examples, settings.examples, len(machine_made)))
        examples += rng.sample(self._demos, min(settings.examples - len(examples), len(self._demos)))
        rng.shuffle(examples)
        lines = [" ".join(example.split()) for example in examples]
        try:
            texts = await self._steps.items(BOOTSTRAP, index=number, examples=lines, count=settings.new_texts)
        except DraftFailed as failure:
            return [failure] * settings.new_texts
        return [_or_failure(texts, place, settings.new_texts) for place in range(settings.new_texts)]

    def _admit(self, text: str | DraftFailed) -> str | DraftFailed:
        if isinstance(text, DraftFailed):
            return text
        if (similar := self._pool.most_similar(text, self._settings.rouge_l)) is not None:
            return DraftFailed(DropReason.TOO_SIMILAR, f"ROUGE-L {similar[0]:.2f}: {text!r} to {similar[1]!r}")
        self._pool.add(text)
        return text


def _or_failure(texts: list[str], place: int, asked: int) -> str | DraftFailed:
    try:
        return nth(texts, place, BOOTSTRAP, asked)
    except DraftFailed as failure:
        return failure
