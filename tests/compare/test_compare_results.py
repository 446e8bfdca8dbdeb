"""The figures of a comparison, from runs whose artifacts are written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from taskdef.compare.comparison import Comparison
from taskdef.compare.outlook import foresee, print_outlook
from taskdef.compare.page import headline, write_pages
from taskdef.compare.reckoning import Assumptions, size_in_name
from taskdef.compare.results import Line, read_results
from taskdef.compare.tables import all_tables, dropped_table, result_table
from taskdef.errors import ConfigError, RunError
from taskdef.evaluate.statistics import mcnemar_exact, wilson_interval
from taskdef.records import Attempt, PassRate, Sample, Stage, TrainingStep, Verdict
from taskdef.store import RunDirectory

ROWS = 20
HARD = {"settings": {"select.strategy": "hard"}}
EASY = {"settings": {"select.strategy": "easy"}}


def finish(
    comparison: Comparison, name: str, right: int, *, selected: int = 4, failed: Sequence[int] = (), overlap: int = 0
) -> None:
    """A finished run whose tuned model is right on the first rows and whose base model on none.

    ``failed`` rows were not judged, ``overlap`` rows stand among the samples scored and, being selected, among those
    trained on. The instructor wrote 5 answers, and 2 came from another run."""
    (cell,) = [cell for cell in comparison.matrix.cells if f"{cell.variant}-seed{cell.seed}" == name]
    run = RunDirectory.create(comparison.path / cell.run, cell.definition, cell.config)
    spending = {
        "responses": 5,
        "calls": 4,
        "from_cache": 2,
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "cost": 0.25,
    }
    samples = [Sample(id=f"s{n}", input=f"{n}?", solution="#### 1", answer="1") for n in range(6)]
    summaries: dict[Stage, dict[str, Any]] = {
        Stage.RETRIEVE: {},
        Stage.SYNTHESIZE: {"kept": 6, "dropped": {"duplicate": 2}, "spending": spending},
        Stage.ADAPT: {"dropped": {}},
        Stage.SELECT: {"scored": 6, "kept": selected},
        Stage.TRAIN: {"steps": 1, "rollouts": 4, "method": "grpo"},
        Stage.EVALUATE: {"overlap": {"scoring": overlap, "training": overlap}},
    }
    made: dict[Stage, dict[str, Any]] = {
        Stage.RETRIEVE: {"passages.jsonl": []},
        Stage.SYNTHESIZE: {"samples.jsonl": samples},
        Stage.ADAPT: {"attempts-base.jsonl": [attempt(sample.id, Verdict.WRONG) for sample in samples]},
        Stage.SELECT: {
            "attempts.jsonl": [attempt(sample.id, Verdict.WRONG) for sample in samples for _ in range(2)],
            "pass_rates.jsonl": [PassRate(sample_id=sample.id, attempts=2, correct=0) for sample in samples],
            "selected.jsonl": samples[:selected],
        },
        Stage.TRAIN: {
            "log.jsonl": [
                TrainingStep(
                    step=1, completion_length=3, entropy=1, loss=0, learning_rate=0, gradient_norm=0, seconds=1
                )
            ]
        },
        Stage.EVALUATE: {
            "attempts-base.jsonl": [attempt(f"t{row}", Verdict.WRONG) for row in range(ROWS)],
            "attempts-tuned.jsonl": [
                attempt(f"t{row}", Verdict.VERIFIER_ERROR if row in failed else correct(row < right))
                for row in range(ROWS)
            ],
        },
    }
    for directory in run.stages():
        directory.open()
        for artifact, records in made[directory.stage].items():
            directory.write_records(artifact, records)
        if directory.stage is Stage.EVALUATE:
            directory.write_json("evaluation.json", {"models": {"base": {}, "tuned": {}}})
        directory.finish(started=0, artifacts=list(made[directory.stage]), summary=summaries[directory.stage])
    comparison.write_entry(run, Stage.TRAIN, "computed", seconds=1)


def attempt(row: str, verdict: Verdict) -> Attempt:
    return Attempt(sample_id=row, text="", answer=None, verdict=verdict, token_count=2, lenient_verdict=verdict)


def correct(is_right: bool) -> Verdict:
    return Verdict.CORRECT if is_right else Verdict.WRONG


def lines(comparison: Comparison) -> dict[str, Line]:
    return {line.variant: line for line in read_results(comparison).lines}


def test_one_seed_is_wilson_mcnemar_and_holm(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": EASY, "hard": HARD})
    comparison.begin()
    for name, right in [("full-seed0", 12), ("easy-seed0", 4), ("hard-seed0", 11)]:
        finish(comparison, name, right)
    found = lines(comparison)
    score, test = found["full"].score, found["easy"].test
    assert score is not None
    assert test is not None
    assert (score.estimate.mean, score.estimate.low) == (0.6, wilson_interval(12, 20)[0])
    assert (test.difference.mean, test.difference.p) == (-0.4, mcnemar_exact(0, 8))
    assert test.adjusted == 2 * mcnemar_exact(0, 8)
    assert found["hard"].test is not None
    assert found["hard"].test.adjusted == 1.0
    assert found["full"].test is None
    assert found["full"].gain == 0.6
    results = read_results(comparison)
    assert headline(comparison, results) == "1 of 2 variants differ from full beyond chance (Holm, 5%): worse: easy."


def test_seeds_give_mean_and_deviation(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": EASY}, seeds=[0, 1])
    comparison.begin()
    for name, right in [("full-seed0", 12), ("full-seed1", 8), ("easy-seed0", 10)]:
        finish(comparison, name, right)
    found = lines(comparison)
    score = found["full"].score
    assert score is not None
    assert score.estimate.mean == 0.5
    assert score.deviation == pytest.approx(0.2 / 2**0.5)
    assert found["easy"].state == "1 of 2 seeds"
    assert found["easy"].test is not None
    assert found["easy"].test.difference.mean == pytest.approx(-0.1)  # against the same seed alone
    row = next(row for row in result_table(comparison, read_results(comparison)).rows if row[0] == "full (reference)")
    assert row[1:3] == ("2", "50.0 ± 14.1")


def test_rows_without_a_verdict_are_left_out_on_both_sides(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": EASY})
    comparison.begin()
    finish(comparison, "full-seed0", 12, failed=[0, 1])
    finish(comparison, "easy-seed0", 6)
    found = lines(comparison)
    assert found["full"].score is not None
    assert (found["full"].score.rows, found["full"].score.missing) == (18, 2)
    assert found["easy"].test is not None
    assert found["easy"].test.difference.mean == pytest.approx(-6 / 18)


def test_other_sizes_than_the_references_are_marked(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": EASY})
    comparison.begin()
    finish(comparison, "full-seed0", 12)
    finish(comparison, "easy-seed0", 6, selected=3)
    assert lines(comparison)["easy"].differs == ("selected",)
    rows = result_table(comparison, read_results(comparison)).rows
    assert rows[-1][-3:] == ("3*", "1", "2")


def test_what_was_taken_over_is_counted_and_paid_once(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": EASY})
    comparison.begin()
    finish(comparison, "full-seed0", 12)
    finish(comparison, "easy-seed0", 6)
    shared = read_results(comparison).shared
    assert {stage.value: made for stage, (made, _) in shared.stages.items()} == {
        "retrieve": 1,
        "synthesize": 1,
        "adapt": 1,
        "select": 2,
        "train": 2,
        "evaluate": 2,
    }
    # each 6 greedy, 12 scored, 4 rollouts, 40 on test rows; of the second's the 6, the 12 and 20 are had already
    assert shared.attempts == (62 + 24, 6 + 12 + 20)
    assert shared.answers == (5, 5 + 2)
    assert (shared.paid.cost, shared.alone.cost, shared.twice) == (0.25, 0.5, 0)
    again = comparison.begun_runs()[0]
    comparison.write_entry(again, Stage.TRAIN, "computed")
    assert read_results(comparison).shared.twice == 1


def test_pages_of_an_unfinished_comparison_say_so(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": {"title": "<easy | one>", **EASY}})
    comparison.begin()
    assert "Nothing can be compared yet" in write_pages(comparison).read_text()
    finish(comparison, "full-seed0", 12)
    run = comparison.run(comparison.matrix.cells[1])
    comparison.write_entry(run, Stage.SYNTHESIZE, "failed", message="no <key>")
    page = write_pages(comparison).read_text()
    text = (comparison.path / "comparison.md").read_text()
    assert "&lt;easy | one&gt;" in page
    assert "<easy" not in page
    assert "synthesize: no &lt;key&gt;" in page
    assert "0 of 1 seeds; failed: synthesize: no <key>" in text
    assert "<easy \\| one>" in text
    assert json.loads((comparison.path / "comparison.json").read_text())["lines"][1]["score"] is None
    assert "http" not in page.replace("http-equiv", "")


def test_every_table_is_as_wide_as_its_headings(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "same": {}, "easy": EASY}, seeds=[0, 1])
    comparison.begin()
    for name in ("full-seed0", "full-seed1", "easy-seed0"):
        finish(comparison, name, 7)
    for table in all_tables(comparison, read_results(comparison)):
        assert {len(row) for row in table.rows} == {len(table.headings)}
    assert lines(comparison)["same"].same_as == "full"
    assert lines(comparison)["same"].test is None


def test_a_held_out_row_that_was_scored_and_trained_on_counts_once(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": {"settings": {"select.strategy": "easy"}}})
    comparison.begin()
    finish(comparison, "full-seed0", 4, overlap=2)
    assert lines(comparison)["full"].overlap == 2


def test_what_was_left_out_stands_by_its_reason(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": EASY})
    comparison.begin()
    finish(comparison, "full-seed0", 7)
    table = dropped_table(read_results(comparison))
    assert (table.headings, table.rows) == (("variant", "duplicate"), (("full", "2"),))


def test_a_damaged_plan_and_a_folder_of_something_else(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": EASY})
    comparison.path.mkdir(parents=True)
    (comparison.path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and not a comparison"):
        comparison.begin()
    (comparison.path / "comparison.yaml").write_text("plan: [")
    with pytest.raises(RunError, match="damaged"):
        Comparison.open(comparison.path)
    with pytest.raises(RunError, match=r"not a comparison \(no comparison\.yaml\)"):
        Comparison.open(comparison.path.parent)


def test_the_outlook_counts_shared_work_once(
    make_comparison: Callable[..., Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"instructor": "openai:gpt-4o", "synthesize.votes": 3, "base_model": "org/Some-7B", "train.batch": 4}
    comparison = make_comparison(
        {"full": {}, "easy": EASY, "off": {"settings": {"adapt.enabled": False}}}, settings=settings
    )
    first, second, third = foresee(comparison, Assumptions())
    assert set(first.sources.values()) == {""}
    assert [second.sources[stage] for stage in Stage] == ["full-seed0"] * 3 + [""] * 3
    assert [third.sources[stage] for stage in Stage] == ["full-seed0"] * 2 + [""] * 4
    # 8 drafts with 3 votes each, 8 rewrites with 3 votes each; twice as many drafts at most x 2
    assert (first.work.calls, first.work.most_calls) == (8 * 4 + 8 * 4, 32 * 4 + 8 * 4)
    assert (second.work.calls, third.work.calls) == (0, 0)
    # 8 greedy, 16 x 2 scored, 1 step x 4 x 2 rollouts, 6 rows by 2 models; then scoring and the base model are had
    assert first.work.completions == 8 + 32 + 8 + 12
    assert second.work.completions == 8 + 6
    assert third.work.completions == 0 + 16 + 8 + 6
    print_outlook(comparison, Assumptions.given(["response_tokens=2"]))
    said = capsys.readouterr().out
    assert "stages: 18, of which 13 to compute, 5 shared, 0 done" in said
    assert "response_tokens = 2" in said
    assert "one GPU: about" in said
    assert not comparison.path.exists()


def test_hours_by_hand() -> None:
    from taskdef.compare.reckoning import Work, with_hours
    from taskdef.config import build_config

    config = build_config(
        overrides={"base_model": "x/y-7B", "policy.batch_tokens": 22000, "policy.max_new_tokens": 2048}
    )
    assumed = Assumptions(decoding_steps_a_second=10, training_flops=7e13)
    # 22,000 / 2,198 = 10 sequences, 10 steps a second: 100 tokens a second; 10 x 7e9 x 360,000 / 7e13 = 360 s
    found = with_hours(Work(sampled=360_000, trained=360_000), config, assumed)
    assert found.hours == pytest.approx(1.1)
    assert (
        with_hours(Work(sampled=1, completions=1), build_config(overrides={"base_model": "mine"}), assumed).hours
        is None
    )


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen2.5-7B", 7),
        ("builtin:smollm2-135m", 0.135),
        ("meta-llama/Llama-3.2-3B-Instruct", 3),
        ("a/b-0.5B", 0.5),
        ("runs/x/model", 0),
    ],
)
def test_sizes_in_names(name: str, billions: float) -> None:
    assert size_in_name(name) == pytest.approx(billions)


def test_assumptions_that_are_none() -> None:
    with pytest.raises(ConfigError, match="--assume respnse=3: no such key"):
        Assumptions.given(["respnse=3"])
    with pytest.raises(ConfigError, match="--assume prompt_tokens: expected KEY=NUMBER"):
        Assumptions.given(["prompt_tokens"])
