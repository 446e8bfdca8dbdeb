"""A stage over a real server: faults change nothing in the result, and a second run asks nothing again."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chat_server import ChatServer, Reply, chat_server, completion, fault

from taskdef.config import InstructorConfig, SynthesizeConfig
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.openai_compatible import KEY_VARIABLE, OpenAIEndpoint
from taskdef.instruct.prompted import PromptedInstructor
from taskdef.instruct.recorded import RecordedChat
from taskdef.instruct.sender import Sender
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Passage, TaskDefinition
from taskdef.synthesize.stage import Synthesis, synthesize_samples
from taskdef.verify.isolated import Verifier

DEFINITION = TaskDefinition(
    name="sums",
    description="Add.",
    output_format="#### and the number",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)
PASSAGES = [Passage(id=f"p{i}", text=f"Number {i} is here.", source="s") for i in range(12)]


def teach(body: dict[str, Any], number: int) -> Reply:
    """Makes "N + N" of a passage about N, and answers such questions rightly."""
    prompt = body["messages"][0]["content"]
    about = re.search(r"Number (\d+) is here", prompt)
    if about:
        n = int(about[1])
        return completion(f'{{"input": "What is {n} + {n}?", "output": "#### {2 * n}"}}')
    question = re.search(r"(\d+) \+ (\d+)", prompt)
    assert question
    return completion(f"#### {int(question[1]) + int(question[2])}")


def faulty(body: dict[str, Any], number: int) -> Reply:
    return fault(503 if number % 2 else 429) if number % 5 == 0 else teach(body, number)


def synthesize(server: ChatServer, ledger: Path) -> Synthesis:
    config = InstructorConfig(concurrency=4)
    sender = Sender(OpenAIEndpoint("m", server.url, config=config), Ledger(ledger), config, backoff_seconds=0.001)
    instructor = PromptedInstructor("openai:m", RecordedChat(sender), max_tokens=50)

    async def run() -> Synthesis:
        with Verifier(DEFINITION.answer) as verifier:
            made = await synthesize_samples(
                DEFINITION,
                PASSAGES,
                SynthesizeConfig(samples=12, votes=2),
                instructor=instructor,
                verifier=verifier,
                test_inputs=[],
                seed=0,
            )
        await instructor.close()
        return made

    return asyncio.run(run())


def test_faults_change_nothing_and_a_second_run_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-planted-secret")
    with chat_server(teach) as server:
        smooth = synthesize(server, tmp_path / "smooth.sqlite")
        assert len(server.requests) == 12 * 3  # a draft and two votes each
        assert synthesize(server, tmp_path / "smooth.sqlite") == smooth
        assert len(server.requests) == 12 * 3
    with chat_server(faulty) as server:
        rough = synthesize(server, tmp_path / "rough.sqlite")
        assert len(server.requests) > 12 * 3
    assert [(s.input, s.answer, s.votes) for s in smooth.samples] == [
        (f"What is {n} + {n}?", str(2 * n), 3) for n in range(12)
    ]
    assert rough == smooth
    assert all(b"sk-planted-secret" not in file.read_bytes() for file in tmp_path.iterdir())
