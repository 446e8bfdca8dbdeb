"""A synthesizer on recorded answers: what it made, and what it asked for."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskdef.config import build_config
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.load import load_instructor
from taskdef.instruct.protocol import Spending
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Demo, Drop, Passage, Sample, TaskDefinition
from taskdef.synthesize.stage import synthesize_samples
from taskdef.verify.isolated import Verifier

SUMS = TaskDefinition(
    name="sums",
    description="Add two whole numbers.",
    output_format='End with "####" and the sum.',
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
    demos=(
        Demo(input="What do three apples and four apples make?", output="#### 7"),
        Demo(input="Add five to six, please.", output="#### 11"),
    ),
)
CLAIMS = TaskDefinition(
    name="claims",
    description="Does the text support the claim?",
    output_format="Give the answer in <answer> tags.",
    answer=AnswerSpec(
        read=AnswerReading.TAG, compare=AnswerComparison.CHOICE, choices=("supported", "refuted", "neither")
    ),
)


@dataclass(frozen=True)
class Made:
    """What came of one run of the stage."""

    samples: tuple[Sample, ...]
    drops: tuple[Drop, ...]
    calls: list[dict[str, Any]]
    """The run's ledger."""
    spending: Spending

    def prompts(self, purpose: str) -> list[str]:
        """The prompts of a purpose, by index and text."""
        found = [call for call in self.calls if call["purpose"] == purpose]
        return [call["prompt"] for call in sorted(found, key=lambda call: (call["sample_index"], call["prompt"]))]

    def asked(self) -> dict[str, int]:
        """Answers by purpose, votes left out."""
        purposes = [call["purpose"] for call in self.calls if call["purpose"] != "answer"]
        return {purpose: purposes.count(purpose) for purpose in dict.fromkeys(sorted(purposes))}

    def dropped(self) -> list[tuple[str, str]]:
        return [(drop.id, drop.reason.value) for drop in self.drops]


def line(purpose: str, *responses: object, match: str = "") -> dict[str, object]:
    """One line of a script; what is no text is written as JSON."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in responses]
    return {"purpose": purpose, "match": match, "responses": texts}


def write_with(
    folder: Path,
    definition: TaskDefinition,
    script: Sequence[dict[str, object]],
    *,
    passages: Sequence[Passage] = (),
    test_inputs: Sequence[str] = (),
    verifier: Verifier,
    **settings: object,
) -> Made:
    """Run the stage with a ledger in ``folder``; settings are those of ``synthesize``, dots written ``__``."""
    dotted = {f"synthesize.{key.replace('__', '.')}": value for key, value in settings.items()}
    config = build_config(overrides={"synthesize.votes": 2, **dotted})
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in script), encoding="utf-8")

    async def run() -> Made:
        instructor = load_instructor(
            f"scripted:{path}", ledger_path=folder / "ledger.sqlite", config=config.instruct, seed=0
        )
        try:
            made = await synthesize_samples(
                definition,
                passages,
                config.synthesize,
                instructor=instructor,
                verifier=verifier,
                test_inputs=test_inputs,
                seed=0,
            )
            spending = instructor.spending()
        finally:
            await instructor.close()
        with contextlib.closing(Ledger(folder / "ledger.sqlite", read_only=True)) as ledger:
            return Made(made.samples, made.drops, list(ledger.calls()), spending)

    return asyncio.run(run())
