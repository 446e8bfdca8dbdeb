import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskdef.definition import testset
from taskdef.definition.testset import load_test_rows, read_raw_rows
from taskdef.errors import TestSetError
from taskdef.records import AnswerSpec, TaskDefinition, TestSource
from taskdef.verify.isolated import Verifier

NUMBER = AnswerSpec(read="number_after_marker", compare="numeric")
CHOICE = AnswerSpec(read="tag", compare="choice", choices=("Yes", "No"))


def task(spec: AnswerSpec, source: TestSource | None) -> TaskDefinition:
    return TaskDefinition(name="t", description="d", output_format="o", answer=spec, test=source)


def source(folder: Path, *rows: object, **settings: str) -> TestSource:
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TestSource(path=path, **settings)


@pytest.fixture(scope="module")
def number():
    with Verifier(NUMBER) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def choice():
    with Verifier(CHOICE) as verifier:
        yield verifier


def test_rows_and_ids(tmp_path, number):
    rows = [{"input": "1 + 1", "output": "two\n#### 2"}, "", {"input": "2 + 2", "output": "4"}]
    loaded = load_test_rows(task(NUMBER, source(tmp_path, *rows)), number)
    # The blank line is no row but counts as a line; the bare 4 is a valid answer by itself.
    assert [(row.id, row.input, row.answer) for row in loaded] == [("test-1", "1 + 1", "2"), ("test-3", "2 + 2", "4")]
    assert len(read_raw_rows(task(NUMBER, source(tmp_path, *rows)), limit=1)) == 1


def test_half_a_surrogate_pair_in_a_row_can_be_written_on(tmp_path, number):
    row = r'{"input": "1 + 1 \ud83d", "output": "\udc00 #### 2"}'
    (read,) = read_raw_rows(task(NUMBER, source(tmp_path, row)))
    assert (read.input, read.output) == ("1 + 1 ?", "? #### 2")


def test_bare_labels_and_templates(tmp_path, choice):
    settings = {"input": "Q: {{ question }} {{ row['the rest'] }}", "output": "{{ answer }}"}
    rows = [
        {"question": "is it", "the rest": "so?", "answer": "Yes"},
        {"question": "or", "the rest": "not?", "answer": "<answer>no</answer>"},
    ]
    loaded = load_test_rows(task(CHOICE, source(tmp_path, *rows, **settings)), choice)
    assert [(row.input, row.answer) for row in loaded] == [("Q: is it so?", "Yes"), ("Q: or not?", "no")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows.jsonl: the test set holds no rows"),
        (["{"], "rows.jsonl:1: not JSON"),
        (["[1]"], "rows.jsonl:1: expected a JSON object, found list"),
        (
            [{"input": "a"}],
            "rows.jsonl:1: test.output cannot be filled in: 'output' is undefined; the row's fields: i",
        ),
        ([{"input": " ", "output": "1"}], "rows.jsonl:1: the input is empty"),
        (
            [{"input": "a", "output": "1"}, {"input": "b", "output": "no idea"}],
            "rows.jsonl:2: the gold answer cannot be used: `read: number_after_marker` finds no answer in it "
            "(output: 'no idea')",
        ),
    ],
)
def test_faults_name_file_and_line(tmp_path, number, rows, message):
    with pytest.raises(TestSetError) as caught:
        load_test_rows(task(NUMBER, source(tmp_path, *rows)), number)
    assert message in caught.value.message
    assert caught.value.next_step


def test_a_gold_answer_outside_the_choices(tmp_path, choice):
    definition = task(CHOICE, source(tmp_path, {"input": "a", "output": "<answer>Maybe</answer>"}))
    with pytest.raises(TestSetError, match=r"rows\.jsonl:1: .*'Maybe' is none of Yes, No \(output: "):
        load_test_rows(definition, choice)


def test_no_test_set_and_no_file(tmp_path, number):
    with pytest.raises(TestSetError, match="the task has no test set") as caught:
        load_test_rows(task(NUMBER, None), number)
    assert "--test FILE" in caught.value.next_step
    with pytest.raises(TestSetError, match=r"nowhere\.jsonl: the test set cannot be read: No such file") as caught:
        load_test_rows(task(NUMBER, TestSource(path=tmp_path / "nowhere.jsonl")), number)
    assert "--test FILE" in caught.value.next_step


def test_faulty_templates(tmp_path):
    with pytest.raises(TestSetError, match=r"test\.input: '\{\{ x' is no valid template"):
        read_raw_rows(task(NUMBER, source(tmp_path, {"a": 1}, input="{{ x")))
    unsafe = "{{ ''.__class__.__mro__ }}"
    with pytest.raises(TestSetError, match=r"test\.input cannot be filled in: access to attribute '__class__'"):
        read_raw_rows(task(NUMBER, source(tmp_path, {"a": 1}, input=unsafe)))


def test_a_hub_that_cannot_be_reached_names_the_way_out(number, monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def refuse(*arguments: object, **settings: object) -> None:
        asked.append((arguments, settings))
        if len(asked) == 1:
            raise RuntimeError("Dataset scripts are no longer supported, but found t.py")
        raise ConnectionError("no route to huggingface.co")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr(testset, "find_hub_fault", lambda kind, name: None)
    with pytest.raises(TestSetError) as caught:
        load_test_rows(task(NUMBER, TestSource(hub="who/what", subset="s", split="test")), number)
    assert caught.value.message == (
        "who/what (s, test): cannot be loaded from the Hugging Face hub: ConnectionError: no route to huggingface.co"
    )
    assert "--test FILE" in caught.value.next_step
    assert asked[0] == (("who/what", "s"), {"split": "test"})
    files = "hf://datasets/who/what@refs%2Fconvert%2Fparquet/s/test/*.parquet"
    assert asked[1] == (("parquet",), {"data_files": files, "split": "train"})


UNREACHABLE = """
import socket
def refuse(*arguments, **settings):
    raise socket.gaierror(-3, "Temporary failure in name resolution")
socket.getaddrinfo = socket.socket.connect = refuse
from taskdef.definition.packs import load_pack
from taskdef.definition.testset import read_raw_rows
from taskdef.errors import TestSetError
try:
    read_raw_rows(load_pack("gsm8k"))
except TestSetError as error:
    print(error)
"""


def test_without_a_network_the_message_comes_soon_and_alone(tmp_path, offline_environment):
    pytest.importorskip("datasets")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE],
        env=offline_environment | {"HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert time.monotonic() - started < 20  # load_dataset alone tries for longer
    assert (done.stdout, done.stderr) == (
        "openai/gsm8k (main, test): cannot be loaded from the Hugging Face hub: the hub cannot be reached: "
        "[Errno -3] Temporary failure in name resolution\n"
        "  next: without a network (or without access): give a local file of rows with `input` and `output`: "
        "--test FILE\n",
        "",
    )
