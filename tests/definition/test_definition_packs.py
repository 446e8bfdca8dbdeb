import json
import os
from pathlib import Path

import pytest

from taskdef.definition.check import check_definition
from taskdef.definition.packs import PAPER_ORDER, load_pack, pack_names, pack_table, resolve_loaded
from taskdef.definition.testset import _Template, load_test_rows
from taskdef.errors import DefinitionError
from taskdef.verify.isolated import Verifier
from taskdef.verify.read import read_answer

DATA = Path(os.environ.get("TASKDEF_DATA", Path(__file__).parents[3] / "shared" / "data"))

# One row a data set, in the columns it has on the hub; contents made up here.
HUB_ROWS = {
    "gsm8k": ({"question": "Two and two?", "answer": "2 + 2 = 4\n#### 4"}, "Two and two?", "4"),
    "math": (
        {"problem": "Halve $1$.", "level": "Level 1", "type": "Prealgebra", "solution": r"So $\boxed{\frac{1}{2}}$."},
        "Halve $1$.",
        r"\frac{1}{2}",
    ),
    "logiqa": (
        {"context": "All cats purr.", "query": "What follows?", "options": ["p", "q", "r", "s"], "correct_option": 2},
        "All cats purr. What follows?\nA: p\nB: q\nC: r\nD: s",
        "C",
    ),
    "medqa": (
        {"question": "Which one?", "options": {"A": "p", "B": "q", "C": "r", "D": "s"}, "answer_idx": "D"},
        "Which one?\nA: p\nB: q\nC: r\nD: s",
        "D",
    ),
    "mednli": (
        {"sentence1": "BP 120/80.", "sentence2": "Hypotension.", "gold_label": "contradiction"},
        "Premise: BP 120/80.\nHypothesis: Hypotension.",
        "contradiction",
    ),
    "cqa": (
        {"index": 0, "contract": "No refunds.", "question": "May I return it?", "answer": "No"},
        "Contract: No refunds.\nQuestion: May I return it?",
        "No",
    ),
    "cfa": ({"query": "?", "answer": "B", "text": "Q: which? A: p B: q C: r"}, "Q: which? A: p B: q C: r", "B"),
}


def test_the_eight_tasks_of_the_paper_are_packs():
    assert pack_names() == list(PAPER_ORDER)
    assert [row.name for row in pack_table()] == list(PAPER_ORDER)
    assert pack_table()[0].test_set == "openai/gsm8k main test"
    assert all(row.summary for row in pack_table())
    assert len(load_pack("math").domains) == 7


@pytest.mark.parametrize("name", HUB_ROWS)
def test_templates_fit_the_hubs_columns(name):
    row, given, gold = HUB_ROWS[name]
    definition = load_pack(name)
    assert definition.test is not None
    assert _Template(definition.test.input, "input")(row, "row 1").strip() == given
    assert read_answer(definition.answer, _Template(definition.test.output, "output")(row, "row 1")) == gold


def test_gpqa_options_are_shuffled_by_the_question_and_the_letter_follows():
    definition = load_pack("gpqa")
    assert definition.test is not None
    fill_input, fill_output = _Template(definition.test.input, "input"), _Template(definition.test.output, "output")
    letters = set()
    for number in range(20):
        row = {"Question": f"Which, {number}?", "Correct Answer": "right"}
        row |= {f"Incorrect Answer {index}": f"wrong {index}" for index in (1, 2, 3)}
        letter = read_answer(definition.answer, fill_output(row, "row"))
        assert f"{letter}: right" in fill_input(row, "row").splitlines()
        letters.add(letter)
    assert letters == {"A", "B", "C", "D"}


@pytest.mark.parametrize("name", PAPER_ORDER)
def test_packs_pass_the_check_with_a_local_file_of_bare_labels(name, tmp_path):
    definition = load_pack(name)
    labels = definition.answer.choices or ("12", "13")
    rows = [{"input": f"question {number}", "output": label} for number, label in enumerate(labels)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = check_definition(load_pack(name, tmp_path / "rows.jsonl"))
    assert [finding.message.split(":")[0] for finding in found] == ["passages"]


def test_a_task_is_found_by_name_file_or_folder(tmp_path):
    assert resolve_loaded("gsm8k").definition.name == "gsm8k"
    pack = Path(load_pack.__code__.co_filename).parent / "packs" / "cqa.yaml"
    (tmp_path / "task.yaml").write_text(pack.read_text(encoding="utf-8"), encoding="utf-8")
    assert resolve_loaded(str(tmp_path / "task.yaml")).definition.name == "cqa"
    changed = resolve_loaded(str(tmp_path), tmp_path / "rows.jsonl").definition
    assert changed.test is not None
    assert (changed.test.path, changed.test.hub, changed.test.input) == (tmp_path / "rows.jsonl", None, "{{ input }}")


def test_an_unknown_name_is_refused_with_the_nearest_known():
    with pytest.raises(DefinitionError, match=r"'gms8k' is neither a file nor a pack; did you mean gsm8k\?") as caught:
        resolve_loaded("gms8k")
    assert "taskdef packs" in caught.value.next_step
    with pytest.raises(DefinitionError, match=r"there is no pack 'mathe'; did you mean math\?"):
        load_pack("mathe")


@pytest.mark.parametrize(
    ("name", "file", "count"), [("gsm8k", "gsm8k_test.jsonl", 1319), ("cqa", "cqa_test.jsonl", 396)]
)
def test_every_human_gold_answer_passes_its_own_verifier(name, file, count):
    path = DATA / file
    if not path.is_file():
        pytest.skip(f"no {file} in {DATA}; set TASKDEF_DATA to the folder that holds it")
    definition = load_pack(name, path)
    with Verifier(definition.answer) as verifier:
        rows = load_test_rows(definition, verifier)
        judgements = verifier.judge(
            [(json.loads(line)["output"], row.answer, False) for line, row in zip(path.open(), rows, strict=True)]
        )
    assert len(rows) == count
    expected = "correct" if name == "gsm8k" else "no_answer"  # cqa's rows are bare labels, without tags
    assert {judgement.verdict for judgement in judgements} == {expected}
