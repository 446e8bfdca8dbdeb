"""A generation run in a process of its own, to be killed: forks one child a line read from stdin.

    python generation_runs.py LEDGER OUTPUT URL SAMPLES

Each line is the longest time in seconds that the child may run before it is killed with SIGKILL, from the moment it
has begun. Prints ``killed`` or ``done`` for each; a child that is done has written its dataset to OUTPUT.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import aiohttp  # noqa: F401  (loaded once here: a child that has to would be killed before it has sent anything)
import genai_prices  # noqa: F401
import openai  # noqa: F401

from taskdef.config import InstructorConfig, SynthesizeConfig
from taskdef.instruct.load import load_instructor
from taskdef.instruct.protocol import Instructor
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Passage, TaskDefinition
from taskdef.synthesize.stage import synthesize_samples
from taskdef.verify.isolated import Verifier

DEFINITION = TaskDefinition(
    name="sums",
    description="Add.",
    output_format="#### and the number",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)


async def synthesize(ledger: Path, url: str, samples: int, verifier: Verifier, **instruct: object) -> str:
    """The dataset as JSON lines."""
    config = InstructorConfig(**{"max_tokens": 100, **instruct})  # type: ignore[arg-type]
    return await dataset(
        load_instructor(f"openai:m@{url}", ledger_path=ledger, config=config, seed=0), samples, verifier
    )


async def dataset(instructor: Instructor, samples: int, verifier: Verifier) -> str:
    """What the instructor makes, as JSON lines; it is closed then."""
    passages = [Passage(id=f"p{n}", text=f"Number {n} is here.", source="s") for n in range(samples)]
    try:
        made = await synthesize_samples(
            DEFINITION,
            passages,
            SynthesizeConfig(samples=samples, votes=4),
            instructor=instructor,
            verifier=verifier,
            test_inputs=[],
            seed=0,
        )
    finally:
        await instructor.close()
    return "".join(sample.model_dump_json() + "\n" for sample in made.samples)


def main() -> None:
    ledger, output, url, samples = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    for line in sys.stdin:
        begun, begin = os.pipe()
        child = os.fork()
        if not child:
            with Verifier(DEFINITION.answer) as verifier:
                os.write(begin, b"!")
                text = asyncio.run(synthesize(ledger, url, samples, verifier, concurrency=8))
            output.write_text(text, encoding="utf-8")
            os._exit(0)
        os.close(begin)
        os.read(begun, 1)
        os.close(begun)
        deadline = time.monotonic() + json.loads(line)
        while not (ended := os.waitpid(child, os.WNOHANG)[0]) and time.monotonic() < deadline:
            time.sleep(0.001)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print("done" if ended else "killed", flush=True)


if __name__ == "__main__":
    main()
