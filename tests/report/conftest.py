"""A whole run directory, as the stages leave it, with figures as a small run has them. Nothing is drawn by chance."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskdef.config import build_config
from taskdef.evaluate.records import Evaluation, PoolOverlap
from taskdef.evaluate.stage import artifact_names, compare, score, summarise
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
    Verdict,
)
from taskdef.store import RunDirectory, StageDirectory

HOSTILE = "<script>alert(1)</script>\u202e\x00 </pre><img src=http://evil.example/x onerror=alert(2)> {{ 7 * 7 }}"

DEFINITION = TaskDefinition(
    name="shop-sums",
    description="Arithmetic word problems: prices, change and quantities in a small shop.",
    input_format="One question in one or two sentences.",
    output_format="Reason in one line, then write #### and the number.",
    answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
)

CONFIG = build_config(
    profile="small",
    overrides={
        "instructor": "procedural:chain_sum",
        "base_model": "builtin:smollm2-135m",
        "seed": 7,
        "train.learning_rate": "2e-5",
        "train.adapter": "lora",
    },
)

GOODS = ("apples", "pencils", "candles", "notebooks", "teacups", "buttons", "oranges", "ribbons")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunDirectory]:
    """``make_run(until=Stage.SELECT)`` builds a run whose stages up to that one are done; all by default."""

    def make(until: Stage | None = Stage.EVALUATE, name: str = "shop-sums") -> RunDirectory:
        return build_run(tmp_path / name, until)

    return make


def build_run(path: Path, until: Stage | None = Stage.EVALUATE) -> RunDirectory:
    run = RunDirectory.create(path, DEFINITION, CONFIG)
    writers = {
        Stage.RETRIEVE: _retrieve,
        Stage.SYNTHESIZE: _synthesize,
        Stage.ADAPT: _adapt,
        Stage.SELECT: _select,
        Stage.TRAIN: _train,
        Stage.EVALUATE: _evaluate,
    }
    for stage in Stage:
        if until is None:
            break
        directory = run.stage(stage)
        directory.open()
        artifacts, summary, seconds = writers[stage](directory)
        directory.finish(started=time.monotonic() - seconds, artifacts=artifacts, summary=summary)
        if stage is until:
            break
    return run


def initial_samples() -> list[Sample]:
    samples = []
    for i in range(200):
        price, count = 2 + i % 17, 3 + i % 9
        goods = GOODS[i % len(GOODS)]
        samples.append(
            Sample(
                id=f"s{i:04d}",
                input=HOSTILE
                if i == 0
                else f"{goods.capitalize()} cost {price} coins. How much do {count} {goods} cost?",
                solution=f"{count} times {price} is {count * price}.\n#### {count * price}",
                answer=str(count * price),
                passage_id=f"p{i % 40:03d}",
                votes=3 + i % 3,
                vote_count=5,
            )
        )
    return samples


def all_samples() -> list[Sample]:
    samples = initial_samples()
    rewrites = []
    for i, sample in enumerate(samples):
        if i % 9 == 5:
            continue
        origin = Origin.HARDER if i % 10 < 3 else Origin.EASIER
        change = "You pay with 500. How much change is left?" if origin is Origin.HARDER else "Count only two of them."
        rewrites.append(
            Sample(
                id=f"{sample.id}-{origin.value}",
                input=f"{sample.input} {change}",
                solution=f"It is {i}.\n#### {i}",
                answer=str(i),
                origin=origin,
                parent_id=sample.id,
                votes=4,
                vote_count=5,
            )
        )
    return samples + rewrites


def pass_rates() -> list[PassRate]:
    rates = []
    for i, sample in enumerate(all_samples()):
        ease = {Origin.INITIAL: 0.9, Origin.HARDER: 0.4, Origin.EASIER: 1.6}[sample.origin]
        correct = min(int(16 * ease * (i * 37 % 100 / 100) ** 2.2), 16)
        rates.append(
            PassRate(sample_id=sample.id, attempts=16, correct=correct, no_answer=2, truncated=1, mean_tokens=18.5)
        )
    return rates


def selected_samples() -> list[Sample]:
    by_id = {rate.sample_id: rate for rate in pass_rates()}
    ranked = sorted(all_samples(), key=lambda sample: (by_id[sample.id].correct == 0, by_id[sample.id].correct))
    return ranked[:150]


def test_rows() -> list[TestRow]:
    return [
        TestRow(
            id=f"row-{i:03d}",
            input=f"A crate holds {i + 4} jars. How many jars are in {i % 7 + 2} crates?",
            answer=str(i),
        )
        for i in range(300)
    ]


test_rows.__test__ = False


def _attempt(sample_id: str, verdict: Verdict, lenient: Verdict | None = None, tokens: int = 18) -> Attempt:
    text = {
        Verdict.CORRECT: "6 times 4 is 24.\n#### 24",
        Verdict.WRONG: "6 times 4 is 26.\n#### 26",
        Verdict.NO_ANSWER: "To solve this problem, we multiply: the result is 24",
        Verdict.TRUNCATED: "Let us think about this step by step. First we note that",
        Verdict.VERIFIER_ERROR: "((((((((((((((((",
    }[verdict]
    answer = {Verdict.CORRECT: "24", Verdict.WRONG: "26"}.get(verdict)
    return Attempt(
        sample_id=sample_id, text=text, answer=answer, verdict=verdict, token_count=tokens, lenient_verdict=lenient
    )


def _retrieve(directory: StageDirectory) -> tuple[list[str], dict, float]:
    directory.write_json(
        "retrieval.json",
        {
            "keywords": ["arithmetic", "word problems", "prices", "change", "shopping", "quantities", "multiplication"],
            "libraries": [{"source": "examples/shop/library.jsonl", "passages": 412, "skipped": []}],
            "requested": 40,
        },
    )
    passages = [
        Passage(
            id=f"p{i:03d}",
            text=f"At the market, a stall sells {GOODS[i % 8]} by the dozen. The seller counts the coins, gives change "
            f"and notes every sale in a ledger of {i + 20} pages.",
            source=f"library.jsonl:{i + 1}",
            score=14.2 - i * 0.21,
        )
        for i in range(40)
    ]
    directory.write_records("passages.jsonl", passages)
    return ["retrieval.json", "passages.jsonl"], {"passages": 40, "spending": {"calls": 1, "prompt_tokens": 310}}, 2.4


def _synthesize(directory: StageDirectory) -> tuple[list[str], dict, float]:
    reasons = [DropReason.NO_MAJORITY] * 31 + [DropReason.DUPLICATE] * 19 + [DropReason.UNPARSEABLE] * 8
    reasons += [DropReason.OVERLAPS_TEST] * 3 + [DropReason.GOLD_FAILS]
    drops = [
        Drop(reason=reason, stage=Stage.SYNTHESIZE, id=f"d{i:04d}", detail=f"A draft about {GOODS[i % 8]} {HOSTILE}")
        for i, reason in enumerate(reasons)
    ]
    directory.write_records("samples.jsonl", initial_samples())
    directory.write_records("drops.jsonl", drops)
    directory.write_json("pattern.json", {"pattern": "A price, a quantity, one multiplication; sometimes change."})
    spending = {"calls": 1046, "reused": 0, "failed_tries": 3, "prompt_tokens": 412_870, "completion_tokens": 98_341}
    return ["samples.jsonl", "drops.jsonl", "pattern.json"], {"samples": 200, "spending": spending}, 71.3


def _adapt(directory: StageDirectory) -> tuple[list[str], dict, float]:
    samples = all_samples()
    drops = [
        Drop(reason=DropReason.NO_REWRITE if i % 3 else DropReason.DUPLICATE, stage=Stage.ADAPT, id=f"r{i:04d}")
        for i in range(22)
    ]
    directory.write_records("samples.jsonl", samples)
    directory.write_records("drops.jsonl", drops)
    directory.write_records(
        "attempts.jsonl",
        [_attempt(s.id, Verdict.CORRECT if i % 10 < 3 else Verdict.WRONG) for i, s in enumerate(initial_samples())],
    )
    directory.write_json(
        "warm_up.json",
        {
            "done": True,
            "reason": "6% of the base model's greedy attempts held a readable answer; below 20% a warm-up is done.",
            "steps": 6,
            "readable_before": 0.0625,
            "readable_after": 0.84375,
            "checks": [
                {"step": 2, "readable": 0.31, "loss": 2.1},
                {"step": 4, "readable": 0.66, "loss": 1.4},
                {"step": 6, "readable": 0.84375, "loss": 0.9},
            ],
        },
    )
    return ["samples.jsonl", "drops.jsonl", "attempts.jsonl", "warm_up.json"], {"harder": 60, "easier": 118}, 38.0


def _select(directory: StageDirectory) -> tuple[list[str], dict, float]:
    directory.write_records("pass_rates.jsonl", pass_rates())
    directory.write_records("selected.jsonl", selected_samples())
    verdicts = (Verdict.WRONG, Verdict.CORRECT, Verdict.NO_ANSWER, Verdict.WRONG)
    directory.write_records("attempts.jsonl", [_attempt(s.id, v) for s in all_samples() for v in verdicts])
    names = ["pass_rates.jsonl", "selected.jsonl", "attempts.jsonl"]
    return names, {"selected": 150}, 264.8


def _train(directory: StageDirectory) -> tuple[list[str], dict, float]:
    write_log(directory, 100)
    return ["log.jsonl"], {"steps": 100}, 421.0


def write_log(directory: StageDirectory, steps: int) -> None:
    entries = []
    for step in range(1, steps + 1):
        wave = math.sin(step * 2.3) * 0.06 + math.sin(step * 0.7) * 0.04
        rise = 1 - math.exp(-step / 35)
        entries.append(
            {
                "step": step,
                "reward": round(0.15 + 0.5 * rise + wave, 4),
                "zero_signal_share": round(min(max(0.42 - 0.2 * rise + 1.5 * wave, 0), 1), 4),
                "completion_length": round(14 + 4 * rise + 10 * wave, 2),
                "truncated_share": round(max(0.08 - 0.07 * rise + wave / 4, 0), 4),
                "entropy": round(0.9 - 0.35 * rise + wave / 2, 4),
                "kl": round(0.002 + 0.05 * rise + wave / 20, 5),
                "loss": 0.01,
                "learning_rate": 2e-5,
                "gradient_norm": 0.8,
                "seconds": round(4.1 + 5 * wave, 2),
            }
        )
    (directory.path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def _evaluate(directory: StageDirectory) -> tuple[list[str], dict, float]:
    rows = test_rows()
    attempts = {
        "base": [
            _attempt(
                row.id,
                Verdict.NO_ANSWER if i % 12 else Verdict.TRUNCATED,
                Verdict.CORRECT if i % 8 == 1 else Verdict.WRONG,
                20 + i % 13,
            )
            for i, row in enumerate(rows)
        ],
        "warm_up": [
            _attempt(row.id, v, v, 12 + i % 9)
            for i, row in enumerate(rows)
            for v in [Verdict.CORRECT if i % 5 == 1 else Verdict.WRONG if i % 7 else Verdict.NO_ANSWER]
        ],
        "tuned": [
            _attempt(row.id, v, v, 14 + i % 5)
            for i, row in enumerate(rows)
            for v in [Verdict.VERIFIER_ERROR if i == 40 else Verdict.CORRECT if i * 7 % 19 < 11 else Verdict.WRONG]
        ],
    }
    evaluation = Evaluation(
        rows=len(rows),
        models={name: score(given) for name, given in attempts.items()},
        comparisons=(
            compare("tuned", attempts["tuned"], "strict", "base", attempts["base"], "lenient"),
            compare("tuned", attempts["tuned"], "strict", "base", attempts["base"], "strict"),
            compare("tuned", attempts["tuned"], "strict", "warm_up", attempts["warm_up"], "strict"),
            compare("warm_up", attempts["warm_up"], "strict", "base", attempts["base"], "strict"),
        ),
        overlap={"scoring": PoolOverlap(inputs=378, found=0), "training": PoolOverlap(inputs=150, found=0)},
    )
    directory.write_records("test_rows.jsonl", rows)
    for name, given in attempts.items():
        directory.write_records(f"attempts-{name}.jsonl", given)
    directory.write_json("evaluation.json", evaluation.model_dump(mode="json"))
    return artifact_names(evaluation), summarise(evaluation), 37.6
