"""Comparisons end to end: what is shared is computed once, and the pages say what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from taskdef.cli import main
from taskdef.compare.comparison import Comparison
from taskdef.compare.page import write_pages
from taskdef.compare.plan import plan_text
from taskdef.compare.resolve import Given, resolve_comparison
from taskdef.compare.results import read_results
from taskdef.compare.run import run_comparison
from taskdef.errors import ConfigError
from taskdef.records import Stage, TaskDefinition


def test_two_variants_share_what_is_the_same(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": {"settings": {"select.strategy": "easy"}}})
    comparison.begin()
    run_comparison(comparison)
    results = read_results(comparison)
    assert {stage.value: counts for stage, counts in results.shared.stages.items()} == {
        "retrieve": (1, 1),
        "synthesize": (1, 1),
        "adapt": (1, 1),
        "select": (2, 0),
        "train": (2, 0),
        "evaluate": (2, 0),
    }
    assert results.shared.twice == 0
    full, easy = (comparison.run(cell) for cell in comparison.matrix.runs())
    assert full.stage(Stage.ADAPT).manifest() == easy.stage(Stage.ADAPT).manifest()
    samples = json.loads((full.stage(Stage.SELECT).path / "manifest.json").read_text())["summary"]["scored"]
    # both choices from one scoring, one evaluation of the base model: 2 attempts a sample, and 6 rows, were taken over
    greedy = (
        full.stage(Stage.ADAPT).manifest().summary["solved"] + full.stage(Stage.ADAPT).manifest().summary["unsolved"]
    )
    assert results.shared.attempts[1] == greedy + 2 * samples + 6
    begun = {(e.run, e.stage): e.attempts for e in comparison.journal() if e.event == "begun"}
    assert begun["easy-seed0", Stage.SELECT] == 2 * samples
    assert begun["easy-seed0", Stage.EVALUATE] == 6
    page = write_pages(comparison)
    assert "easy" in page.read_text()
    assert "| full (reference) | 1 |" in (comparison.path / "comparison.md").read_text()
    journal = comparison.journal()
    run_comparison(comparison)
    assert comparison.journal() == journal
    # a kill between a run's report and the removal of its model
    assert full.model_path.exists()
    variants = {name: variant.model_dump() for name, variant in comparison.plan.variants.items()}
    run_comparison(make_comparison(variants, keep_models=False))
    assert not full.model_path.exists()


def test_a_comparison_is_gone_on_with_by_its_directory(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": {"settings": {"select.strategy": "easy"}}})
    comparison.begin()
    again, loaded = resolve_comparison(str(comparison.path), Given(only=[], settings={}, passages=[]))
    assert again.matrix == comparison.matrix
    assert loaded.definition == comparison.matrix.definition
    with pytest.raises(ConfigError, match="has its own task and settings; given: --task, --set"):
        resolve_comparison(str(comparison.path), Given(task="gsm8k", settings={"select.size": 3}))


def test_the_command_line_comes_on_top_of_a_plan(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("profile: small\nselect: {size: 30, rollouts: 5}\n")
    given = Given(
        task="gsm8k",
        runs_dir=tmp_path,
        config_file=tmp_path / "own.yaml",
        settings={"instructor": "openai:m", "train.batch": 3},
        seeds=[5],
        only=["easy"],
    )
    comparison, _ = resolve_comparison("table4", given)
    assert [cell.run for cell in comparison.matrix.cells] == ["full-seed5", "easy-seed5"]
    config = comparison.matrix.cells[1].config
    assert (config.profile, config.train.batch, config.select.strategy) == ("small", 3, "easy")
    assert (config.select.rollouts, config.select.size) == (64, 30)  # the plan's over the file's
    assert comparison.path == tmp_path / "table4-gsm8k"
    with pytest.raises(ConfigError, match="names no task"):
        resolve_comparison("table4", Given())
    with pytest.raises(ConfigError, match="--only esy: is none of the plan's variants"):
        resolve_comparison("table4", Given(task="gsm8k", only=["esy"]))


def test_a_comparison_that_grows_keeps_the_demos_of_its_runs(
    held_out_sums: TaskDefinition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    monkeypatch.chdir(tmp_path)
    rows = [{"input": f"How much is {n} and {3 * n}?", "output": f"#### {4 * n}"} for n in range(1, 60)]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = held_out_sums.model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))

    def planned(seeds: list[int], only: list[str]) -> Comparison:
        given = Given(task="task.yaml", human=Path("people.jsonl"), seeds=seeds, only=only)
        return resolve_comparison("demos", given)[0]

    few, more = planned([0, 1], ["demos-1"]), planned([0, 1, 2, 3], ["demos-1", "demos-10"])
    assert few.plan.human == tmp_path / "people.jsonl"
    drawn = {cell.seed: cell.definition.demos for cell in few.matrix.of("demos-1")}
    assert drawn[0] != drawn[1]
    assert {cell.seed: cell.definition.demos for cell in more.matrix.of("demos-1") if cell.seed in drawn} == drawn


@pytest.mark.parametrize("seeds", [[0, 0], [-1]])
def test_seeds_that_are_none_are_refused(seeds: list[int]) -> None:
    with pytest.raises(ConfigError, match="table4: seeds: input should be different whole numbers of at least 0"):
        resolve_comparison("table4", Given(task="gsm8k", seeds=seeds))


def test_a_task_without_held_out_rows_is_refused_before_anything_is_paid(sums: TaskDefinition, tmp_path: Path) -> None:
    import yaml

    (tmp_path / "task.yaml").write_text(yaml.safe_dump(sums.model_dump(mode="json", exclude_defaults=True)))
    with pytest.raises(ConfigError, match="has no test set, and variants are compared on held-out rows") as raised:
        resolve_comparison("table4", Given(task=str(tmp_path / "task.yaml")))
    assert "--test FILE" in str(raised.value.next_step)


def test_the_command_prints_plans_and_outlooks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def said(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["taskdef", "compare", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    assert said("table4", "--print") == plan_text("table4")
    monkeypatch.chdir(tmp_path)
    outlook = said("table4", "--task", "gsm8k", "--only", "easy", "--seeds", "0", "--base-model", "a/B-7B", "--dry-run")
    assert outlook.startswith("runs/table4-gsm8k (new): 2 variants x 1 seeds, 2 runs\n")
    assert list(tmp_path.iterdir()) == []
