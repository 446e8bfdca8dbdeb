"""Kill -9 at every kind of moment of a run in batches: nothing is submitted twice once its batch was created."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from batch_runs import synthesize
from batch_server import batch_server
from chat_server import Reply, completion
from generation_runs import DEFINITION

from taskdef.instruct.ledger import Ledger
from taskdef.verify.isolated import Verifier

FILES, BATCHES, LOOK, CONTENT = "POST /files", "POST /batches", "GET /batches/*", "GET /files/*/content"
MOMENTS = [  # when the request comes in, seconds until the server goes on with it
    (FILES, 0.0),
    (BATCHES, 0.0),
    (LOOK, 0.0),
    (LOOK, 0.0),
    (CONTENT, 0.0),
    (FILES, 0.05),
    (BATCHES, 0.2),  # the batch comes into being while the next process looks for it
    (CONTENT, 0.0),
    (LOOK, 0.0),
]


def teach(body: dict[str, Any]) -> Reply:
    """Makes "N + N" of a passage about N; of the votes on it the last is wrong."""
    prompt = body["messages"][0]["content"]
    if about := re.search(r"Number (\d+) is here", prompt):
        n = int(about[1])
        return completion(f'{{"input": "What is {n} + {n}?", "output": "#### {2 * n}"}}')
    question = re.search(r"(\d+) \+ (\d+)", prompt)
    assert question
    total = int(question[1]) + int(question[2])
    reply = completion("")
    choice = reply.body["choices"][0]
    texts = [f"#### {total + (vote == 3)}" for vote in range(body.get("n", 1))]
    reply.body["choices"] = [choice | {"message": {"role": "assistant", "content": text}} for text in texts]
    return reply


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 15))])
def test_a_run_in_batches_that_is_killed_again_and_again_submits_nothing_twice(tmp_path: Path, seed: int) -> None:
    samples, rng = 12, random.Random(seed)
    moments = list(MOMENTS)
    if seed:  # elsewhere, and some milliseconds later: in the midst of what the process does with the reply
        rng.shuffle(moments)
    ledger, output = tmp_path / "ledger.sqlite", tmp_path / "samples.jsonl"
    with batch_server(teach) as undisturbed, Verifier(DEFINITION.answer) as verifier:
        expected = asyncio.run(synthesize(tmp_path / "smooth.sqlite", undisturbed.url, samples, verifier))
    child, left = 0, list(moments)

    def kill_here(method: str, path: str, number: int) -> Reply | None:
        if not left or left[0][0] != f"{method} {path}":
            return None
        _, delay = left.pop(0)
        if seed:
            threading.Timer(rng.uniform(0, 0.04), kill, [child]).start()
        else:
            kill(child)
        return Reply({}, 200, delay=delay)

    def kill(victim: int) -> None:
        if victim == child:  # it has not ended meanwhile
            os.kill(victim, signal.SIGKILL)

    with batch_server(teach, looks=1, trouble=kill_here) as server:
        command = [sys.executable, str(Path(__file__).parent / "batch_runs.py")]
        with subprocess.Popen(
            [*command, str(ledger), str(output), server.url, str(samples)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as runs:
            assert runs.stdin is not None
            assert runs.stdout is not None
            ends = []
            while "done" not in ends and len(ends) < 40:
                print(file=runs.stdin, flush=True)
                child = int(runs.stdout.readline())
                ends.append(runs.stdout.readline().strip())
                child = 0
            runs.stdin.close()
    assert output.read_text(encoding="utf-8") == expected
    assert expected.count("\n") == samples
    # One line for each draft, one for its four votes; each was run once, at the first try.
    lines = [line for batch in server.batches.values() for line in server.files[batch["input_file_id"]].splitlines()]
    assert len(server.asked) == len(undisturbed.asked) == len(lines) == 2 * samples
    totals = Ledger(ledger, read_only=True).totals()
    assert (totals.requests, totals.calls, totals.responses) == (2 * samples, 2 * samples, 5 * samples)
    assert (totals.lost, totals.in_batches, totals.failed_tries) == (0, 0, 0)
    assert (totals.counted.tokens, totals.counted.calls) == (20 * samples, 2 * samples)
    print(f"{ends.count('killed')} kills, {len(server.batches)} batches")
    if not seed:
        assert ends == ["killed"] * len(MOMENTS) + ["done"]
