"""Human examples in place of written samples: sifted, drawn, trained on by the same trainer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskdef.compare.comparison import Comparison
from taskdef.compare.results import read_results
from taskdef.compare.run import run_comparison
from taskdef.config import SynthesizeConfig, build_config
from taskdef.definition.packs import load_pack
from taskdef.definition.testset import load_test_rows, read_gold_answers, read_human_rows
from taskdef.errors import RunError, TestSetError
from taskdef.pipeline import run_stage
from taskdef.records import DropReason, Sample, Stage, TaskDefinition
from taskdef.records import TestSource as HeldOut
from taskdef.store import RunDirectory
from taskdef.synthesize.human import HumanRow, draw_human_samples
from taskdef.verify.isolated import Verifier

TESTS = ["Held out: 100 plus 100, please"]
ROWS = [
    HumanRow(1, "1 plus 1?", "one and one\n#### 2", "2"),
    HumanRow(2, "2 plus 2?", "4", "4"),
    HumanRow(3, TESTS[0], "#### 200", "200"),
    HumanRow(4, "odd", "nothing", None, "no number"),
    HumanRow(5, "1 PLUS 1?", "#### 2", "2"),
    HumanRow(6, "3 plus 3?", "#### 6", "6"),
]


def settings(**human: Any) -> SynthesizeConfig:
    return SynthesizeConfig.model_validate({"human": {"file": "human.jsonl", **human}})


def test_each_row_becomes_a_sample_or_a_drop_with_its_reason(sums: TaskDefinition) -> None:
    found = draw_human_samples(sums, ROWS, settings(), test_inputs=TESTS, seed=0)
    assert [(sample.id, sample.solution, sample.answer) for sample in found.samples] == [
        ("h00001", "one and one\n#### 2", "2"),
        ("h00002", "#### 4", "4"),  # a bare label is put into the task's format: SFT learns it
        ("h00006", "#### 6", "6"),
    ]
    assert {drop.id: drop.reason for drop in found.drops} == {
        "h00003": DropReason.OVERLAPS_TEST,
        "h00004": DropReason.GOLD_FAILS,
        "h00005": DropReason.DUPLICATE,
    }
    assert found.summary() == {
        "kept": 3,
        "drafts": 6,
        "dropped": {"gold_fails": 1, "overlaps_test": 1, "duplicate": 1},
    }


def test_rows_are_drawn_with_the_seed(sums: TaskDefinition) -> None:
    rows = [HumanRow(n, f"{n} plus {n}?", f"#### {2 * n}", str(2 * n)) for n in range(1, 41)]
    drawn = [
        {sample.id for sample in draw_human_samples(sums, rows, settings(rows=8), test_inputs=[], seed=seed).samples}
        for seed in (0, 0, 1)
    ]
    assert [len(one) for one in drawn] == [8, 8, 8]
    assert drawn[0] == drawn[1] != drawn[2]


def test_fewer_rows_than_are_wanted_is_an_error_with_the_reasons(sums: TaskDefinition) -> None:
    with pytest.raises(RunError) as raised:
        draw_human_samples(sums, ROWS, settings(rows=4), test_inputs=TESTS, seed=0)
    assert str(raised.value) == (
        "human.jsonl: 4 rows are wanted, and 3 of 6 can be used (1 gold_fails, 1 overlaps_test, 1 duplicate)\n"
        "  next: ask for fewer with --set synthesize.human.rows=N, or give a larger file"
    )


def test_a_file_has_plain_fields_or_those_of_the_test_set(sums: TaskDefinition, tmp_path: Path) -> None:
    task = sums.model_copy(update={"test": HeldOut(hub="a/b", input="{{ question }}", output="#### {{ answer }}")})
    (tmp_path / "own.jsonl").write_text('{"question": "1 + 1?", "answer": 2}\n')
    (tmp_path / "plain.jsonl").write_text('{"input": "1 + 1?", "output": "#### 2"}\n')
    for name in ("own", "plain"):
        (row,) = read_human_rows(task, tmp_path / f"{name}.jsonl")
        assert (row.input, row.output) == ("1 + 1?", "#### 2")
    with pytest.raises(TestSetError, match="the human examples cannot be read: no such file"):
        read_human_rows(task, tmp_path / "none.jsonl")


def test_a_run_on_human_rows_asks_nobody(held_out_sums: TaskDefinition, tmp_path: Path) -> None:
    """No instructor is named, and stages 1 and 2 are done all the same."""
    rows = [{"input": f"{n} plus {n}?", "output": f"#### {2 * n}"} for n in range(9)]
    rows.append({"input": "Held out: 100 plus 100, please", "output": "#### 200"})
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = build_config(overrides={"synthesize.human.file": str(tmp_path / "human.jsonl"), "adapt.enabled": False})
    run = RunDirectory.create(tmp_path / "run", held_out_sums, config)
    for stage in (Stage.RETRIEVE, Stage.SYNTHESIZE):
        run_stage(run, stage)
    assert run.stage(Stage.SYNTHESIZE).manifest().summary["dropped"] == {"overlaps_test": 1}
    assert len(run.stage(Stage.SYNTHESIZE).read_records("samples.jsonl", Sample)) == 9


@pytest.mark.slow
def test_rl_and_sft_on_human_rows_beside_written_samples(
    make_comparison: Callable[..., Comparison], tmp_path: Path
) -> None:
    rows = [{"input": f"{n} plus {n}?", "output": f"#### {2 * n}"} for n in range(9)]
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    comparison = make_comparison(
        {
            "written": {},
            "rl-same": {"human": "same"},
            "sft-whole": {"human": "whole", "own_budget": True, "settings": {"train.method": "sft"}},
        },
        settings={"train.sft.max_steps": 1, "evaluate.limit": 2},
        human=str(tmp_path / "human.jsonl"),
    )
    comparison.begin()
    run_comparison(comparison)
    found = {line.variant: line for line in read_results(comparison).lines}
    assert [found[name].sizes["selected"] for name in ("written", "rl-same", "sft-whole")] == [4, 4, 9]
    assert [found[name].overlap for name in found] == [0, 0, 0]
    assert found["sft-whole"].taken is not None
    assert found["sft-whole"].taken.answers == 0


@pytest.mark.skipif("TASKDEF_DATA" not in os.environ, reason="TASKDEF_DATA names no folder of public data sets")
def test_gsm8k_rows_keep_apart_from_its_test_set() -> None:
    folder = Path(os.environ["TASKDEF_DATA"])
    task = load_pack("gsm8k", folder / "gsm8k_test.jsonl")
    rows = read_human_rows(task, folder / "gsm8k_train.jsonl")[:400]
    with Verifier(task.answer) as verifier:
        gold = read_gold_answers(task.answer, verifier, [row.output for row in rows])
        tests = [row.input for row in load_test_rows(task, verifier)]
    human = [
        HumanRow(n, row.input, row.output, g.answer, g.failure)
        for n, (row, g) in enumerate(zip(rows, gold, strict=True), 1)
    ]
    given = [*human, HumanRow(401, tests[7], "#### 1", "1")]
    found = draw_human_samples(task, given, settings(), test_inputs=tests, seed=0)
    assert "h00401" in {drop.id for drop in found.drops if drop.reason is DropReason.OVERLAPS_TEST}
    assert len(found.samples) + len(found.drops) == 401
    assert len(found.samples) > 350
