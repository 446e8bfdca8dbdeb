"""taskdef's own instructor on the loopback server: one vote for every question, each on record in a ledger on disk.

Goes the way a run goes, through ``load_instructor`` and ``Instructor.answer``, with the settings a run has if nothing
is said: how many requests are in flight adapts by itself. ``--in-flight`` is the most there may be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from measured import MAX_TOKENS, MODEL, TEMPERATURE, Clock, parse_arguments, read_texts

import taskdef
from taskdef.config import InstructorConfig
from taskdef.instruct.protocol import Instructor
from taskdef.records import TaskDefinition

TASK = Path(__file__).parents[2] / "examples" / "sums" / "task.yaml"


def main() -> None:
    arguments = parse_arguments(__doc__, in_flight=InstructorConfig().concurrency)
    config = InstructorConfig(concurrency=arguments.in_flight, max_tokens=MAX_TOKENS)
    instructor = taskdef.load_instructor(
        f"openai:{MODEL}@{arguments.url}", ledger_path=arguments.work / "ledger.sqlite", config=config, seed=0
    )
    definition = taskdef.load_definition(TASK)
    questions = read_texts(arguments.texts, arguments.calls)
    clock = Clock()
    answered = asyncio.run(ask(instructor, definition, questions, arguments.in_flight))
    clock.report(
        answered=answered,
        version=f"taskdef {taskdef.__version__}",
        setting=f"adapts by itself, at most {arguments.in_flight}",
    )


async def ask(instructor: Instructor, definition: TaskDefinition, questions: Iterator[str], most: int) -> int:
    """Ask everything, holding no more than what is under way; the ledger is closed, so on disk, when this returns."""
    answered = 0

    async def work() -> None:
        nonlocal answered
        for question in questions:
            answers = await instructor.answer(definition, question, count=1, temperature=TEMPERATURE)
            answered += len(answers)

    try:
        await asyncio.gather(*(work() for _ in range(most)))
    finally:
        await instructor.close()
    return answered


if __name__ == "__main__":
    main()
