"""A whole run on disk, small enough to work out by hand: what tests of exports and analyses read."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from taskdef.config import build_config
from taskdef.evaluate.records import PoolOverlap
from taskdef.records import (
    AnswerComparison,
    AnswerReading,
    AnswerSpec,
    Attempt,
    Drop,
    DropReason,
    Origin,
    Passage,
    PassRate,
    Sample,
    Stage,
    TaskDefinition,
    TestRow,
    TestSource,
    TrainingStep,
    Verdict,
)
from taskdef.store import RunDirectory

SUMS = TaskDefinition(
    name="sums",
    description="Add two numbers.",
    input_format="A sum.",
    output_format="End with #### and the number.",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
    test=TestSource(path=Path("/home/somebody/secret/test.jsonl")),
)
SAMPLES = [
    Sample(
        id=f"s{n:02d}",
        input=f"{n} + {n + 1}?",
        solution=f"{n} + {n + 1} = {2 * n + 1}\n#### {2 * n + 1}",
        answer=str(2 * n + 1),
        passage_id=f"p{n % 3}",
        domain=("small", "large")[n >= 6],
        votes=3 + n % 2,
        vote_count=4,
    )
    for n in range(12)
]
REWRITES = [
    one.model_copy(
        update={
            "id": f"{one.id}-harder",
            "input": f"{one.input} And ten more?",
            "solution": f"#### {int(one.answer) + 10}",
            "answer": str(int(one.answer) + 10),
            "origin": Origin.HARDER,
            "parent_id": one.id,
            "passage_id": None,
        }
    )
    for one in SAMPLES[:3]
]
RATES = [0, 1, 2, 3, 4, 1, 2, 3, 4, 0, 4, 4, 1, 0, 2]
"""Correct of four attempts, of all samples in their order."""


def build_finished_run(
    path: Path, *, model: Path | None = None, until: Stage = Stage.EVALUATE, seed: int = 0, **overrides: Any
) -> RunDirectory:
    """``model``: a folder that is copied as the tuned model."""
    settings = {
        "instructor": "openai:writer@http://10.0.0.7:8000/v1",
        "base_model": "builtin:smollm2-135m",
        "seed": seed,
    }
    config = build_config(profile="small", overrides=settings | {"policy.max_new_tokens": 16} | overrides)
    run = RunDirectory.create(path, SUMS, config)
    everything = [*SAMPLES, *REWRITES]
    rates = [
        PassRate(sample_id=one.id, attempts=4, correct=correct) for one, correct in zip(everything, RATES, strict=True)
    ]
    chosen = [one for one, correct in zip(everything, RATES, strict=True) if 0 < correct < 4]
    written: dict[Stage, dict[str, Any]] = {
        Stage.RETRIEVE: {
            "passages.jsonl": [Passage(id=f"p{n}", text=f"Passage {n}.", source=f"lib.txt:{n}") for n in range(3)],
            "retrieval.json": {"keywords": ["sums"], "libraries": [], "requested": 3},
        },
        Stage.SYNTHESIZE: {
            "samples.jsonl": SAMPLES,
            "drops.jsonl": [Drop(reason=DropReason.DUPLICATE, stage=Stage.SYNTHESIZE, id="d0", passage_id="p0")],
            "pattern.json": {"pattern": None},
        },
        Stage.ADAPT: {
            "samples.jsonl": everything,
            "drops.jsonl": [Drop(reason=DropReason.NO_REWRITE, stage=Stage.ADAPT, id="r0")],
            "warm_up.json": {"done": False, "reason": "answers can be read"},
            "attempts.jsonl": [attempt(one, correct > 2) for one, correct in zip(SAMPLES, RATES, strict=False)],
        },
        Stage.SELECT: {
            "pass_rates.jsonl": rates,
            "selected.jsonl": chosen,
            "attempts.jsonl": [
                attempt(one, n < correct, n) for one, correct in zip(everything, RATES, strict=True) for n in range(4)
            ],
        },
        Stage.TRAIN: {"log.jsonl": [step(number, seed) for number in range(1, 21)]},
        Stage.EVALUATE: {},
    }
    for stage, files in written.items():
        directory = run.stage(stage)
        directory.open()
        if stage is Stage.EVALUATE:
            files = _evaluation()
        for name, content in files.items():
            (directory.write_records if name.endswith(".jsonl") else directory.write_json)(name, content)
        if stage is Stage.TRAIN and model is not None:
            shutil.copytree(model, run.model_path)
        directory.finish(started=time.monotonic(), artifacts=list(files), summary={})
        if stage is until:
            break
    return run


def attempt(sample: Sample | TestRow, right: bool, number: int = 0) -> Attempt:
    answer = sample.answer if right else str(int(sample.answer) + 1 + number)
    return Attempt(
        sample_id=sample.id,
        text=f"Attempt {number}: #### {answer}",
        answer=answer,
        verdict=Verdict.CORRECT if right else Verdict.WRONG,
        token_count=8 + number,
        lenient_verdict=Verdict.CORRECT if right else Verdict.WRONG,
    )


def step(number: int, seed: int = 0) -> TrainingStep:
    return TrainingStep(
        step=number,
        reward=round(0.2 + 0.02 * number + 0.05 * seed, 4),
        zero_signal_share=0.5 - 0.01 * number,
        completion_length=10.0,
        entropy=0.5,
        kl=0.001 * number,
        loss=0.01,
        learning_rate=1e-6,
        gradient_norm=1.0,
        seconds=2.0,
    )


def _evaluation() -> dict[str, Any]:
    from taskdef.evaluate.records import Evaluation
    from taskdef.evaluate.stage import compare, score

    rows = [TestRow(id=f"t{n}", input=f"{n} + 100?", answer=str(n + 100)) for n in range(40)]
    attempts = {
        "base": [attempt(row, n < 10) for n, row in enumerate(rows)],
        "tuned": [attempt(row, n < 20) for n, row in enumerate(rows)],
    }
    evaluation = Evaluation(
        rows=40,
        models={name: score(given) for name, given in attempts.items()},
        comparisons=(compare("tuned", attempts["tuned"], "strict", "base", attempts["base"], "lenient"),),
        overlap={"training": PoolOverlap(inputs=8, found=0)},
    )
    return {
        "test_rows.jsonl": rows,
        **{f"attempts-{name}.jsonl": given for name, given in attempts.items()},
        "evaluation.json": evaluation.model_dump(mode="json"),
    }
