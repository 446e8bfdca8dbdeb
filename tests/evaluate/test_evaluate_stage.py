"""Evaluation with a policy that answers from a table and a judge that knows one number."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskdef.config import RunConfig
from taskdef.errors import RunError, TestSetError
from taskdef.evaluate.records import Evaluation
from taskdef.evaluate.stage import artifact_names, compare, evaluate_models, score, summarise
from taskdef.records import (
    AnswerComparison,
    AnswerReading,
    AnswerSpec,
    Attempt,
    Completion,
    Stage,
    TaskDefinition,
    TestRow,
    Verdict,
)
from taskdef.store import RunDirectory
from taskdef.verify.isolated import Verifier

DEFINITION = TaskDefinition(
    name="sums",
    description="Add two numbers.",
    output_format="End with #### and the number.",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)


class TablePolicy:
    """Completes from a table; notes what it was asked."""

    def __init__(self, name: str, table: dict[str, str], asked: list[tuple[str, float]]) -> None:
        self.name = name
        self.table = table
        self.asked = asked

    def complete(self, inputs: Sequence[str], *, count: int, temperature: float, seed: int) -> list[list[Completion]]:
        self.asked += [(text, temperature) for text in inputs]
        texts = [self.table.get(text, "I do not know") for text in inputs]
        return [[Completion(text=text, token_count=len(text.split()), truncated=False)] * count for text in texts]

    def prompt_length(self, sample_input: str) -> int:
        return len(sample_input.split())


@dataclass(frozen=True)
class Judged:
    answer: str | None
    verdict: Verdict
    lenient_verdict: Verdict | None


class NumberJudge:
    """Strict: the number after ####. Lenient: the last number. The text "crash" is a verifier's failure."""

    def judge(self, items: Sequence[tuple[str, str, bool]], lenient: bool = False) -> list[Judged]:
        return [self._one(text, gold, lenient) for text, gold, _ in items]

    def _one(self, text: str, gold: str, lenient: bool) -> Judged:
        if text == "crash":
            return Judged(None, Verdict.VERIFIER_ERROR, Verdict.VERIFIER_ERROR)
        strict = re.search(r"#### (\d+)", text)
        loose = re.findall(r"\d+", text)
        answer, last = (strict.group(1) if strict else None), (loose[-1] if loose else None)
        return Judged(answer, self._verdict(answer, gold), self._verdict(last, gold) if lenient else None)

    @staticmethod
    def _verdict(answer: str | None, gold: str) -> Verdict:
        if answer is None:
            return Verdict.NO_ANSWER
        return Verdict.CORRECT if answer == gold else Verdict.WRONG


ROWS = [TestRow(id=f"row-{i}", input=f"{i} + 1 =", answer=str(i + 1)) for i in range(4)]
BASE = {"0 + 1 =": "It is 1", "1 + 1 =": "2", "2 + 1 =": "9"}
TUNED = {"0 + 1 =": "#### 1", "1 + 1 =": "#### 2", "2 + 1 =": "#### 3", "3 + 1 =": "crash"}


def run_directory(path: Path) -> RunDirectory:
    return RunDirectory.create(path, DEFINITION, RunConfig())


def evaluate(directory=None, asked=None, rows=ROWS, tables=None) -> Evaluation:
    asked = [] if asked is None else asked
    tables = {"base": BASE, "tuned": TUNED} if tables is None else tables
    factories = {name: lambda name=name, table=table: TablePolicy(name, table, asked) for name, table in tables.items()}
    return evaluate_models(DEFINITION, rows, factories, verifier=NumberJudge(), seed=0, directory=directory)


def test_each_model_is_scored_strictly_and_leniently_on_the_same_rows() -> None:
    asked: list[tuple[str, float]] = []
    found = evaluate(asked=asked)
    base, tuned = found.models["base"], found.models["tuned"]
    assert found.rows == 4
    assert (base.strict.correct, base.strict.judged, base.strict.share) == (0, 4, 0.0)
    assert (base.lenient.correct, base.lenient.share) == (2, 0.5)
    assert base.verdicts[Verdict.NO_ANSWER] == 4
    assert base.lenient_verdicts == {
        Verdict.CORRECT: 2,
        Verdict.WRONG: 1,
        Verdict.NO_ANSWER: 1,
        Verdict.TRUNCATED: 0,
        Verdict.VERIFIER_ERROR: 0,
    }
    assert base.mean_tokens == (3 + 1 + 1 + 4) / 4
    assert (tuned.strict.correct, tuned.strict.judged, tuned.strict.share) == (3, 3, 1.0)
    assert asked == [(row.input, 0.0) for row in ROWS] * 2


def test_a_verifiers_failure_is_missing_from_the_pair_and_counted() -> None:
    hardest = evaluate().comparisons[0]
    assert (hardest.a, hardest.a_reading, hardest.b, hardest.b_reading) == ("tuned", "strict", "base", "lenient")
    assert (hardest.pairs, hardest.missing, hardest.only_a, hardest.only_b) == (3, 1, 1, 0)
    assert hardest.difference_points == pytest.approx(100 / 3)
    assert hardest.p_value == 1.0  # one discordant pair: a coin toss, both sides


def test_with_a_warm_up_its_share_of_the_gain_is_shown_apart() -> None:
    found = evaluate(tables={"base": BASE, "warm_up": {"0 + 1 =": "#### 1"}, "tuned": TUNED})
    pairs = [(one.a, one.b, one.b_reading) for one in found.comparisons]
    assert pairs == [
        ("tuned", "base", "lenient"),
        ("tuned", "base", "strict"),
        ("tuned", "warm_up", "strict"),
        ("warm_up", "base", "strict"),
    ]


def test_nothing_judged_is_none_and_not_zero() -> None:
    failed = Attempt(sample_id="a", text="crash", answer=None, verdict=Verdict.VERIFIER_ERROR, token_count=1)
    result = score([failed])
    assert result.strict.share is None
    assert result.lenient.low is None
    comparison = compare("tuned", [failed], "strict", "base", [failed], "strict")
    assert (comparison.difference_points, comparison.p_value, comparison.missing) == (None, None, 1)
    assert score([]).mean_tokens is None


def test_no_rows_are_the_users_to_fix() -> None:
    with pytest.raises(TestSetError, match=r"sums: no held-out rows(.|\n)*next: give the definition a test set"):
        evaluate(rows=[])


def test_artifacts_say_what_was_returned(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run").stage(Stage.EVALUATE)
    found = evaluate(directory)
    assert artifact_names(found) == [
        "test_rows.jsonl",
        "attempts-base.jsonl",
        "attempts-tuned.jsonl",
        "evaluation.json",
    ]
    assert all((directory.path / name).exists() for name in artifact_names(found))
    assert Evaluation.model_validate(directory.read_json("evaluation.json")) == found
    assert directory.read_records("test_rows.jsonl", TestRow) == ROWS
    assert summarise(found)["accuracy"]["tuned"] == {"strict": 1.0, "lenient": 1.0}
    assert summarise(found)["verifier_errors"] == {"base": 0, "tuned": 1}


def test_a_killed_evaluation_goes_on_and_loads_no_model_that_is_finished(tmp_path: Path) -> None:
    undisturbed = evaluate(run_directory(tmp_path / "a").stage(Stage.EVALUATE))
    directory = run_directory(tmp_path / "b").stage(Stage.EVALUATE)
    evaluate(directory)
    tuned = directory.path / "attempts-tuned.jsonl"
    lines = tuned.read_bytes().splitlines(keepends=True)
    tuned.write_bytes(lines[0] + lines[1] + lines[2][:20])  # killed while writing the third
    asked: list[tuple[str, float]] = []
    assert evaluate(directory, asked) == undisturbed
    assert asked == [(row.input, 0.0) for row in ROWS]  # the tuned model's broken chunk, the base model not at all
    assert tuned.read_bytes().splitlines(keepends=True) == lines


def test_attempts_on_other_rows_are_refused(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run").stage(Stage.EVALUATE)
    evaluate(directory)
    others = [TestRow(id="other", input="7 + 7 =", answer="14")]
    with pytest.raises(RunError, match=r"belong to other inputs(.|\n)*--fresh evaluate"):
        evaluate(directory, rows=others)


def test_the_tasks_own_verifier_tells_format_from_answers() -> None:
    table = {"0 + 1 =": "The sum is 1", "1 + 1 =": "#### 2", "2 + 1 =": "#### 25", "3 + 1 =": ""}
    with Verifier(DEFINITION.answer) as verifier:
        found = evaluate_models(
            DEFINITION, ROWS, {"base": lambda: TablePolicy("base", table, [])}, verifier=verifier, seed=0
        )
    base = found.models["base"]
    assert (base.strict.correct, base.lenient.correct) == (1, 2)
    assert base.verdicts[Verdict.WRONG] == 1  # 25 is not 3
    assert base.verdicts[Verdict.NO_ANSWER] == 2
    assert found.comparisons == ()
