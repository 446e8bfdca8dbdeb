from pathlib import Path

import pytest

from taskdef.definition.load import load_definition, load_with_places
from taskdef.errors import DefinitionError

GOOD = """\
name: sums
description: Add numbers.
output_format: "End with #### and the sum."
answer:
  read: number_after_marker
  compare: numeric
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def fault(folder: Path, text: str) -> str:
    """The message that loading ``text`` raises, without the folder."""
    with pytest.raises(DefinitionError) as caught:
        load_definition(write(folder, text))
    assert caught.value.next_step
    return caught.value.message.replace(f"{folder}/", "")


def test_a_small_definition(tmp_path):
    definition = load_definition(write(tmp_path, GOOD))
    assert (definition.name, definition.answer.marker, definition.demos) == ("sums", "####", ())


def test_everything_at_once(tmp_path):
    (tmp_path / "demos.jsonl").write_text('\n{"input": "1 + 1", "output": "#### 2"}\n', encoding="utf-8")
    text = (
        GOOD + "  tolerance: 1e-3\ndemos: demos.jsonl\ndomains: small\npassages: [a.txt, {path: b, text_field: body}]\n"
    )
    loaded = load_with_places(write(tmp_path, text + "test: rows.jsonl\n"))
    definition = loaded.definition
    assert definition.answer.tolerance == 0.001
    assert [(demo.input, demo.output) for demo in definition.demos] == [("1 + 1", "#### 2")]
    assert definition.domains == ("small",)
    assert [source.path for source in definition.passages] == [tmp_path / "a.txt", tmp_path / "b"]
    assert definition.passages[1].text_field == "body"
    assert definition.test is not None
    assert definition.test.path == tmp_path / "rows.jsonl"
    assert loaded.where("demos[1]") == f"{tmp_path}/demos.jsonl:2"
    assert loaded.where("answer.choices") == f"{tmp_path}/task.yaml:4"
    assert loaded.where("nothing.here") == f"{tmp_path}/task.yaml:1"


def test_half_a_surrogate_pair_can_be_written_on(tmp_path):
    (tmp_path / "demos.jsonl").write_text(r'{"input": "1 \ud83d", "output": "\udc00 #### 2"}', encoding="utf-8")
    text = GOOD.replace("Add numbers.", r'"Add \ud83d."') + "demos: demos.jsonl\n"
    definition = load_definition(write(tmp_path, text))
    assert definition.description == "Add ?."
    assert [(demo.input, demo.output) for demo in definition.demos] == [("1 ?", "? #### 2")]


def test_choices_stay_words(tmp_path):
    """YAML 1.1 reads Yes and No as booleans and 01 as a number."""
    text = GOOD.replace("numeric", "choice") + "  choices: [Yes, No, 01, null, 1.0]\n"
    assert load_definition(write(tmp_path, text)).answer.choices == ("Yes", "No", "01", "null", "1.0")
    labels = GOOD.replace("numeric", "label_set") + "  labels: [on, off]\n"
    assert load_definition(write(tmp_path, labels)).answer.choices == ("on", "off")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("answer:", "anwser:"), "task.yaml:4: anwser: there is no such key; did you mean answer?"),
        (
            ("  compare:", "  comparison:"),
            "task.yaml:6: answer.comparison: there is no such key; did you mean compare?",
        ),
        (("read: number_after_marker", "read: tags"), "task.yaml:5: answer.read: 'tags' is not one of "),
        (("read: number_after_marker", "read: tags"), "exact, regex, function; did you mean tag?"),
        (("name: sums", "name: My Sums"), "task.yaml:1: name: 'My Sums' must be lower-case letters"),
        (("description: Add numbers.\n", ""), "task.yaml:1: description: is missing"),
        (("Add numbers.", '" "'), "task.yaml:2: description: is empty"),
        (("Add numbers.", '""'), "task.yaml:2: description: is empty"),
        (("Add numbers.", "[a, b]"), "task.yaml:2: description: input should be a valid string (given: ['a', 'b'])"),
        (("numeric", "numeric\n  marker: ' '"), "task.yaml:7: answer.marker: is empty"),
        (("numeric", "numeric\n  tolerance: much"), "task.yaml:7: answer.tolerance: input should be a valid number"),
        (("numeric", "choice"), "task.yaml:4: answer.choices: `compare: choice` needs the permitted answers"),
        (("numeric", "choice\n  choices: [A, (a)]"), "task.yaml:7: answer.choices[2]: '(a)' says the same as 'A'"),
        (("number_after_marker", "regex"), "task.yaml:4: answer.pattern: `read: regex` needs a regular expression"),
        (("number_after_marker", "regex\n  pattern: '(a'"), "task.yaml:6: answer.pattern: '(a' does not compile: "),
        (("number_after_marker", "tag\n  tag: <x>"), "task.yaml:6: answer.tag: '<x>' is no tag name"),
        (("number_after_marker", "function"), "task.yaml:4: answer.function: None is no dotted path"),
        (("name: sums", "name: sums\nname: more"), "task.yaml:2: name: given twice"),
        (("name: sums", "name: [sums"), "task.yaml:2: not valid YAML: "),
        (("name: sums", "name: &a [*a]"), "task.yaml:1: nested too deeply"),
        (("name: sums", "name: sums\ndemos: none.jsonl"), "task.yaml:2: demos: "),
        (("name: sums", "name: sums\ndemos:\n- input: a"), "task.yaml:3: demos[1].output: is missing"),
        (("name: sums", "name: sums\ntest: {split: x}"), "task.yaml:2: test: names neither a `path` nor a `hub`"),
        (("name: sums", "name: sums\npassages: [{file: x}]"), "passages[1].file: there is no such key"),
    ],
)
def test_faults_name_file_line_and_key(tmp_path, change, message):
    assert message in fault(tmp_path, GOOD.replace(*change))


def test_all_faults_are_named_at_once(tmp_path):
    message = fault(tmp_path, GOOD.replace("read: number_after_marker", "read: x").replace("name: sums", "name: S"))
    assert [line.split(": ")[1] for line in message.splitlines()] == ["name", "answer.read"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "task.yaml: expected a mapping (name, description, …), found nothing"),
        ("- a", "task.yaml: expected a mapping (name, description, …), found a list"),
        ("sums", "task.yaml: expected a mapping (name, description, …), found a text"),
    ],
)
def test_other_documents(tmp_path, text, message):
    assert fault(tmp_path, text) == message


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DefinitionError, match="there is no such file") as caught:
        load_definition(tmp_path / "task.yaml")
    assert caught.value.next_step == f"taskdef init {tmp_path}/task.yaml"
    with pytest.raises(DefinitionError, match="cannot be read: Is a directory"):
        load_definition(tmp_path)
    (tmp_path / "task.yaml").write_bytes(b"name: \xff")
    with pytest.raises(DefinitionError, match="not UTF-8 at byte 6"):
        load_definition(tmp_path / "task.yaml")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "demos.jsonl:2: not JSON"),
        ('{"input": "a"}', "demos.jsonl:2: output: field required"),
        ('{"input": 1, "output": "b"}', "demos.jsonl:2: input: input should be a valid string"),
        ("[]", "demos.jsonl:2: the line: input should be a valid dictionary"),
    ],
)
def test_demo_lines(tmp_path, line, message):
    (tmp_path / "demos.jsonl").write_text('{"input": "a", "output": "b"}\n' + line, encoding="utf-8")
    assert message in fault(tmp_path, GOOD + "demos: demos.jsonl\n")
    (tmp_path / "demos.jsonl").write_text("\n", encoding="utf-8")
    assert "demos.jsonl holds no demos" in fault(tmp_path, GOOD + "demos: demos.jsonl\n")
