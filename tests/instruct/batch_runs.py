"""A generation run through the Batch API in a process of its own, to be killed: forks one child a line read from stdin.

    python batch_runs.py LEDGER OUTPUT URL SAMPLES

Prints the child's process id, and ``killed`` or ``done`` when it has ended; a child that is done has written its
dataset to OUTPUT.
"""

import asyncio
import os
import sys
from pathlib import Path

import aiohttp  # noqa: F401  (loaded once here)
import openai  # noqa: F401
from generation_runs import DEFINITION, dataset

from taskdef.config import InstructorConfig
from taskdef.instruct.batch import Batches
from taskdef.instruct.batch_api import Pace
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.openai_compatible import OpenAIEndpoint
from taskdef.instruct.prompted import PromptedInstructor
from taskdef.instruct.recorded import RecordedChat
from taskdef.instruct.sender import Sender
from taskdef.verify.isolated import Verifier

PACE = Pace(quiet=0.05, first_poll=0.01, longest_poll=0.02, creation_settles=0.4)


async def synthesize(ledger: Path, url: str, samples: int, verifier: Verifier) -> str:
    """The dataset as JSON lines."""
    config = InstructorConfig(max_tokens=100, batch=True)
    endpoint, held = OpenAIEndpoint("m", url, config=config), Ledger(ledger)
    chat = RecordedChat(Sender(endpoint, held, config, batches=Batches(endpoint, held, pace=PACE)))
    return await dataset(PromptedInstructor("openai:m", chat, max_tokens=100), samples, verifier)


def main() -> None:
    ledger, output, url, samples = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            with Verifier(DEFINITION.answer) as verifier:
                text = asyncio.run(synthesize(ledger, url, samples, verifier))
            output.write_text(text, encoding="utf-8")
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("done" if os.WIFEXITED(status) and not os.WEXITSTATUS(status) else "killed", flush=True)


if __name__ == "__main__":
    main()
