"""The example `examples/sums`: its test rows are right, and what retrieval finds decides what its samples are about."""

import asyncio
import json
import re
from pathlib import Path

from taskdef.config import RetrieveConfig, SynthesizeConfig
from taskdef.definition.load import load_definition
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.retrieve.stage import retrieve_passages
from taskdef.synthesize.stage import synthesize_samples
from taskdef.verify.isolated import Verifier

FOLDER = Path(__file__).parents[2] / "examples" / "sums"
SPECIFICATION = (
    "chain_sum(level.num_terms=0)+gcd+calendar_arithmetic(tasks=[count_days])+simple_geometry+letter_counting"
)


def held_out_rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / "test.jsonl").read_text(encoding="utf-8").splitlines()]


def share_of_sums(passages: int) -> float:
    definition = load_definition(FOLDER / "task.yaml")
    instructor = ProceduralInstructor(SPECIFICATION, seed=0)

    async def made() -> float:
        found = await retrieve_passages(definition, RetrieveConfig(passages=passages), instructor=instructor)
        with Verifier(definition.answer) as verifier:
            synthesis = await synthesize_samples(
                definition,
                found.passages,
                SynthesizeConfig(samples=100),
                instructor=instructor,
                verifier=verifier,
                test_inputs=[row["question"] for row in held_out_rows()],
                seed=0,
            )
        assert len(synthesis.samples) == 100
        return sum("chain_sum.num_terms" in sample.level for sample in synthesis.samples) / 100

    return asyncio.run(made())


def test_the_held_out_rows_are_different_problems_with_right_answers() -> None:
    rows = held_out_rows()
    assert len({row["question"] for row in rows}) == len({row["id"] for row in rows}) == 200
    one_digit = 0
    for row in rows:
        first, sign, second = re.search(r"(\d+) ([+-]) (\d+) =$", row["question"]).groups()  # type: ignore[union-attr]
        assert int(row["answer"]) == (int(first) + int(second) if sign == "+" else int(first) - int(second))
        one_digit += len(first) == 1
    assert one_digit == 100


def test_the_best_passages_give_sums_and_the_rest_of_the_library_does_not() -> None:
    assert share_of_sums(passages=24) == 1.0
    assert share_of_sums(passages=10_000) < 0.9
