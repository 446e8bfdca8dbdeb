"""Plans: what is refused, and by which words; every shipped plan is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskdef.compare.comparison import Comparison
from taskdef.compare.matrix import build_matrix
from taskdef.compare.plan import load_plan, parse_plan, plan_text, shipped_plans
from taskdef.config import build_config
from taskdef.errors import ConfigError
from taskdef.records import Demo, PassageSource, TaskDefinition

TWO: dict[str, Any] = {"full": {}, "easy": {"settings": {"select.strategy": "easy"}}}


def plan(**given: Any) -> dict[str, Any]:
    return {"name": "p", "reference": "full", "variants": TWO} | given


def test_the_shipped_plans() -> None:
    assert shipped_plans() == [
        "algorithms",
        "demos",
        "families",
        "human",
        "instructors",
        "retrieval",
        "synthesizers",
        "table3",
        "table4",
    ]


@pytest.mark.parametrize("name", shipped_plans())
def test_every_shipped_plan_can_be_worked_on(name: str, sums: TaskDefinition, tmp_path: Path) -> None:
    """With a task that has everything a variant may want."""
    loaded = load_plan(name)
    (tmp_path / "human.jsonl").write_text("{}\n" * 700)
    definition = sums.model_copy(
        update={"passages": (PassageSource(path=tmp_path),), "demos": (Demo(input="1 + 1?", output="#### 2"),)}
    )
    human = [Demo(input=f"{n} + 1?", output=f"#### {n + 1}") for n in range(200)]
    loaded = loaded.model_copy(update={"human": tmp_path / "human.jsonl"})
    matrix = build_matrix(loaded, definition, tmp_path, human)
    assert len(matrix.cells) == 3 * len(loaded.variants)
    assert len({cell.run for cell in matrix.cells}) == len(matrix.cells)
    assert matrix.cells[0].variant == loaded.reference
    assert plan_text(name).startswith("#")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (plan(sedes=[1]), "p.yaml: sedes: no such key; did you mean seeds?"),
        (
            plan(variants={"full": {"setings": {}}, "b": {}}),
            "variants.full.setings: no such key; did you mean settings?",
        ),
        (plan(seeds=[1, 1]), "seeds: input should be different whole numbers of at least 0 (given: [1, 1])"),
        (plan(reference="ful"), "reference: 'ful' is none of the variants; did you mean full?"),
        (plan(variants={"full": {}}), "variants: dictionary should have at least 2 items"),
        (plan(variants={"full": {}, "a/b": {}}), "variants.a/b: a variant's name is a folder's name"),
        (plan(variants={"full": {"human": "half"}, "b": {}}), "variants.full.human: input should be same, whole, or"),
        ({"name": "p", "variants": TWO}, "p.yaml: reference: field required"),
    ],
)
def test_faults_of_a_plan_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_plan(values, "p.yaml")
    assert message in str(raised.value)
    assert raised.value.next_step


def test_a_plan_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tabel4: no such file, and no plan of that name; did you mean table4\?"):
        load_plan("tabel4")
    with pytest.raises(ConfigError, match=r"none\.yaml: the plan cannot be read: No such file"):
        load_plan(str(tmp_path / "none.yaml"))
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="expected a mapping, found list"):
        load_plan(str(tmp_path / "list.yaml"))


def test_paths_are_taken_from_the_plans_folder(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("")
    content = "name: p\ntask: task.yaml\nhuman: h.jsonl\nreference: a\nvariants: {a: {}, b: {}}\n"
    (tmp_path / "p.yaml").write_text(content)
    found = load_plan(str(tmp_path / "p.yaml"))
    assert (found.task, found.human) == (str(tmp_path / "task.yaml"), tmp_path / "h.jsonl")
    (tmp_path / "p.yaml").write_text(content.replace("task.yaml", "gsm8k"))
    assert load_plan(str(tmp_path / "p.yaml")).task == "gsm8k"


def test_a_wrong_setting_names_its_variant(make_comparison: Callable[..., Comparison]) -> None:
    with pytest.raises(ConfigError) as raised:
        make_comparison({"full": {}, "odd": {"settings": {"select.sise": 3}}})
    assert str(raised.value).startswith("small: variants.odd: select.sise: no such setting; did you mean select.size?")
    with pytest.raises(ConfigError, match=r"variants\.full: seed: is not a setting of a comparison"):
        make_comparison({"full": {}, "b": {}}, settings={"seed": 3})


def test_settings_of_a_plan_are_what_a_run_takes(make_comparison: Callable[..., Comparison]) -> None:
    """Nested or dotted, numbers as YAML leaves them, and the variant's on top."""
    comparison = make_comparison(
        {"full": {"settings": {"train": {"max_steps": 2}}}, "b": {"settings": {"train.max_steps": 2}}},
        settings={"train.learning_rate": "1e-4", "select": {"size": 3}},
    )
    first, second = comparison.matrix.cells
    assert first.run == second.run == "full-seed0"
    assert (first.config.train.max_steps, first.config.train.learning_rate, first.config.select.size) == (2, 1e-4, 3)


def test_another_budget_must_be_said(make_comparison: Callable[..., Comparison]) -> None:
    fewer = {"settings": {"select.size": 2, "train.max_steps": 3, "select.rollouts": 1}}
    with pytest.raises(ConfigError) as raised:
        make_comparison({"full": {}, "fewer": fewer})
    assert str(raised.value) == (
        "small: variants.fewer: another budget than full: samples to train on 2 instead of 4, training steps 3 instead "
        "of 1, attempts a sample 1 instead of 2\n"
        "  next: make them equal, or say `own_budget: true` in fewer, and the table shows the difference"
    )
    make_comparison({"full": {}, "fewer": fewer | {"own_budget": True}})


def test_what_cannot_matter_makes_no_other_run(
    make_comparison: Callable[..., Comparison], held_out_sums: TaskDefinition, tmp_path: Path
) -> None:
    without = {"full": {}, "b": {"settings": {"synthesize.pattern": False, "retrieve.method": "random"}}}
    assert len(make_comparison(without).matrix.runs()) == 1
    more = held_out_sums.model_copy(update={"demos": (Demo(input="1 + 1?", output="#### 2"),)})
    assert len(make_comparison(without, more).matrix.runs()) == 2


def test_demos_come_from_the_task_first_then_from_people(
    make_comparison: Callable[..., Comparison], held_out_sums: TaskDefinition, tmp_path: Path
) -> None:
    own = Demo(input="1 + 1?", output="#### 2")
    task = held_out_sums.model_copy(update={"demos": (own,)})
    with pytest.raises(ConfigError, match="demos: 3 are wanted, and there are 1: 1 of the task's own"):
        make_comparison({"none": {"demos": 0}, "three": {"demos": 3}}, task)
    plan = make_comparison({"none": {"demos": 0}, "one": {"demos": 1}}, task).plan
    plan = plan.model_copy(
        update={
            "seeds": (0, 1),
            "variants": plan.variants | {"three": plan.variants["one"].model_copy(update={"demos": 3})},
        }
    )
    human = [Demo(input=f"{n} + 1?", output=f"#### {n + 1}") for n in range(2, 30)]
    matrix = build_matrix(plan, task, tmp_path, human)
    assert [len(cell.definition.demos) for cell in matrix.cells] == [0, 1, 3, 0, 1, 3]
    first, second = (cell.definition.demos for cell in matrix.of("three"))
    assert first[0] == second[0] == own
    assert first[1:] != second[1:]


def test_answers_are_shared_within_a_seed_or_between_all(make_comparison: Callable[..., Comparison]) -> None:
    def caches(**given: Any) -> list[str]:
        cells = make_comparison(TWO, seeds=[0, 1], **given).matrix.cells
        return [str(cell.config.instruct.cache).rsplit("/", 1)[-1] for cell in cells]

    assert caches() == ["seed0", "seed0", "seed1", "seed1"]
    assert caches(answers="all-seeds") == ["all"] * 4
    assert caches(settings={"instruct.cache": "/tmp/mine"}) == ["mine"] * 4


def test_human_rows_stand_in_for_written_samples(make_comparison: Callable[..., Comparison], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="human: the plan names no file of human examples"):
        make_comparison({"full": {}, "rl": {"human": "same"}})
    (tmp_path / "human.jsonl").write_text("{}\n" * 9)
    comparison = make_comparison(
        {"full": {}, "rl": {"human": "same"}, "sft": {"human": "whole", "own_budget": True}},
        human=str(tmp_path / "human.jsonl"),
    )
    config = comparison.matrix.of("rl")[0].config
    assert config.synthesize.human.rows == 4
    assert (config.adapt.enabled, config.select.strategy, config.retrieve.method) == (False, "all", "none")
    assert comparison.matrix.of("sft")[0].config.synthesize.human.rows is None
    assert build_config().synthesize.human.file is None


def test_caps_and_memory_may_change_while_a_comparison_is_under_way(make_comparison: Callable[..., Comparison]) -> None:
    make_comparison(TWO).begin()
    make_comparison(TWO, settings={"instruct.budget": "5usd", "policy.batch_tokens": 512}).begin()
    config = Comparison.open(make_comparison(TWO).path).matrix.cells[0].config
    assert (str(config.instruct.budget), config.policy.batch_tokens) == ("5usd", 512)
    with pytest.raises(ConfigError, match=r"other values of: settings\.select\.rollouts\n"):
        make_comparison(TWO, settings={"select.rollouts": 3}).begin()


def test_a_comparison_may_grow_and_not_change(make_comparison: Callable[..., Comparison]) -> None:
    make_comparison(TWO).begin()
    make_comparison(TWO | {"hard": {"settings": {"select.strategy": "hard"}}}, seeds=[0, 1]).begin()
    assert Comparison.open(make_comparison(TWO).path).plan.seeds == (0, 1)
    with pytest.raises(ConfigError) as raised:
        make_comparison({"full": {}, "easy": {"settings": {"select.strategy": "random"}}}, answers="all-seeds").begin()
    assert "begun with other values of: answers, variants.easy, variants.hard (gone), seed 1 (gone)" in str(
        raised.value
    )
