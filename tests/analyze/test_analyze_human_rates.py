"""Pass rates of human rows: drawn by the seed, kept on disk, made once."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from finished_run import build_finished_run

from taskdef.analyze.rates import AnalysisDirectory, human_rates
from taskdef.analyze.records import Rates
from taskdef.analyze.sets import HumanRow
from taskdef.progress import SilentProgress
from taskdef.records import Completion, Stage
from taskdef.store import RunDirectory
from taskdef.verify.isolated import Verifier

ROWS = [HumanRow(f"h{n}", f"{n} + 0?", f"#### {n}", str(n)) for n in range(4)] + [HumanRow("h9", "?", "none", None)]


class Counting:
    """A policy that answers every problem with 0, 1, 2, … in turn: each number is right once."""

    def __init__(self) -> None:
        self.asked = 0

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        self.asked += len(inputs)
        return [[Completion(text=f"#### {n}", token_count=3, truncated=False) for n in range(count)] for _ in inputs]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return build_finished_run(tmp_path / "sums")


def measure(run: RunDirectory, policy: Counting, *, attempts: int = 2, most_rows: int = 10) -> Rates:
    with Verifier(run.definition.answer) as verifier:
        return human_rates(
            ROWS,
            policy,  # type: ignore[arg-type]
            AnalysisDirectory(run),
            most_rows=most_rows,
            attempts=attempts,
            verifier=verifier,
            progress=SilentProgress(),
        )


def test_rates_are_those_of_the_rows_that_have_an_answer(run: RunDirectory) -> None:
    rates = measure(run, Counting())
    # two attempts, 0 and 1: right once for the answers 0 and 1, never for 2 and 3
    assert sorted(rates.rates) == [0, 0, 0.5, 0.5]
    assert (rates.attempts, rates.missing) == ((2, 2, 2, 2), 1)


def test_what_was_attempted_is_not_attempted_again(run: RunDirectory) -> None:
    policy = Counting()
    first = measure(run, policy)
    assert measure(run, policy) == first
    assert policy.asked == 4
    measure(run, policy, attempts=4)  # other attempts: another file
    assert policy.asked == 8
    assert len(list((run.path / "analysis").glob("human-attempts-*.jsonl"))) == 2
    manifest = run.stage(Stage.ADAPT).manifest()
    again = manifest.model_copy(update={"outputs": manifest.outputs | {"warm_up.json": "another"}})
    (run.stage(Stage.ADAPT).path / "manifest.json").write_text(again.model_dump_json())
    measure(run, policy)  # another warm-up is another model
    assert policy.asked == 12


def test_no_more_rows_are_drawn_than_asked_for(run: RunDirectory) -> None:
    policy = Counting()
    rates = measure(run, policy, most_rows=3)
    assert (policy.asked, len(rates.rates), rates.missing) == (3, 3, 2)
