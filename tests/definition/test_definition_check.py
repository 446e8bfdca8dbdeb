import json
from pathlib import Path

import pytest

from taskdef.definition.check import check_definition
from taskdef.definition.init import template
from taskdef.definition.load import load_with_places

GOOD = """\
name: claims
description: Judge claims.
output_format: "Think, then write <answer>true</answer> or <answer>false</answer>."
answer: {read: tag, compare: choice, choices: [true, false]}
passages: library.txt
test: rows.jsonl
demos:
- {input: Snow is hot., output: <answer>false</answer>}
"""
ROWS = [{"input": "Fire is hot.", "output": "true"}, {"input": "Ice is hot.", "output": "<answer>False</answer>"}]


def findings(
    folder: Path, text: str = GOOD, rows: list[dict[str, str]] = ROWS, library: str = "All about heat."
) -> str:
    """What the check prints, without the folder."""
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    (folder / "library.txt").write_text(library, encoding="utf-8")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = check_definition(load_with_places(folder / "task.yaml"))
    return "\n".join(str(finding) for finding in found).replace(f"{folder}/", "")


def test_a_sound_definition_has_no_findings(tmp_path):
    assert findings(tmp_path) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("<answer>true</answer> or <answer>false</answer>", "true or false"),
            "task.yaml:3: error: output_format: does not mention '<answer>', which `answer.read: tag` looks for",
        ),
        (("output: <answer>false", "output: false or so <x"), "task.yaml:8: error: demos[1]: the output's answer"),
        (("output: <answer>false</answer>", "output: false"), "finds no answer in it (output: 'false')"),
        (("output: <answer>false", "output: <answer>perhaps"), "'perhaps' is none of true, false"),
        (("Snow is hot.", "fire is  HOT"), "demos[1]: its input also stands in the test set (rows.jsonl:1)"),
        (("choices: [true, false]", "choices: [true, false, unknown]"), "does not name 'unknown' of the permitted"),
        (
            ("choices: [true, false]", "choices: [true, false, unknown]"),
            "task.yaml:4: warning: answer.choices: 'unknown' never occurs as an answer in the demos and test rows",
        ),
        (("test: rows.jsonl\n", ""), "task.yaml:1: warning: test: no test set"),
        (("test: rows", "test: none"), "task.yaml:6: error: none.jsonl: the test set cannot be read: No such file"),
        (("passages: library.txt\n", ""), "task.yaml:1: warning: passages: none given"),
        (("library.txt", "books.txt"), "task.yaml:5: error: passages[1]: books.txt cannot be read: No such file"),
        (("read: tag,", "read: function, function: no_such.read,"), "'no_such.read' cannot be imported"),
        (
            ("demos:\n", "demos:\n- {input: snow is hot, output: <answer>false</answer>}\n"),
            "the same input as demos[1]",
        ),
    ],
)
def test_findings(tmp_path, change, message):
    changed = GOOD.replace(*change)
    assert changed != GOOD
    assert message in findings(tmp_path, changed)


def test_rows_whose_gold_answer_cannot_be_used(tmp_path):
    text = findings(tmp_path, rows=[*ROWS, {"input": "a", "output": "perhaps"}])
    assert "rows.jsonl:3: error: the gold answer cannot be used: `read: tag` finds no answer in it" in text
    many = [{"input": str(number), "output": "perhaps"} for number in range(25)]
    text = findings(tmp_path, rows=many)
    assert "rows.jsonl:20: error" in text
    assert "rows.jsonl:21: error" not in text
    assert "5 more rows with an unusable gold answer" in text


def test_an_empty_library_is_an_error(tmp_path):
    assert "passages[1]: library.txt is empty" in findings(tmp_path, library="")
    (tmp_path / "folder").mkdir()
    text = findings(tmp_path, GOOD.replace("library.txt", "folder"))
    assert "passages[1]: folder is a folder without any text" in text


@pytest.mark.parametrize(("output_format", "sound"), [("Put it in \\boxed{}.", True), ("Put it in a box.", False)])
def test_boxed_output_formats(tmp_path, output_format, sound):
    text = f"name: m\ndescription: d\noutput_format: '{output_format}'\nanswer: {{read: boxed, compare: math}}\n"
    assert ("does not mention" not in findings(tmp_path, text)) is sound


def test_the_template_is_accepted_as_it_stands(tmp_path):
    (tmp_path / "task.yaml").write_text(template(), encoding="utf-8")
    found = check_definition(load_with_places(tmp_path / "task.yaml"))
    assert [(finding.severity, finding.message.split(":")[0]) for finding in found] == [
        ("warning", "passages"),
        ("warning", "test"),
    ]
