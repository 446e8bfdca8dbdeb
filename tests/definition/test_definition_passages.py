"""The `passages` part of task.yaml: files, data sets, and what cannot be meant."""

from pathlib import Path

import pytest

from taskdef.definition.load import load_definition
from taskdef.errors import DefinitionError

HEAD = "name: t\ndescription: d\noutput_format: o\nanswer: {read: exact, compare: text}\npassages:\n"


def load(folder: Path, passages: str) -> object:
    (folder / "task.yaml").write_text(HEAD + passages, encoding="utf-8")
    return load_definition(folder / "task.yaml").passages


def test_every_field_of_a_library_is_read(tmp_path: Path) -> None:
    one, two, three = load(  # type: ignore[misc]
        tmp_path,
        "  - books\n"
        "  - {hub: OWNER/NAME, subset: de, split: test, language: german}\n"
        "  - {hub: ./rows, weight: 2, passage_words: 100, overlap_words: 20, text_field: body}\n",
    )
    assert (one.path, one.hub, one.weight, one.passage_words, one.overlap_words) == (
        tmp_path / "books",
        None,
        1.0,
        200,
        0,
    )
    assert (two.path, two.hub, two.subset, two.split, two.language) == (None, "OWNER/NAME", "de", "test", "german")
    assert (three.hub, three.weight, three.passage_words, three.overlap_words, three.text_field) == (
        str(tmp_path / "rows"),
        2.0,
        100,
        20,
        "body",
    )


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ("  - {text_field: body}\n", "task.yaml:6: passages[1]: names neither a `path` nor a `hub` data set"),
        (
            "  - {path: a, hub: b}\n",
            "task.yaml:6: passages[1].hub: a library is a `path` or a `hub` data set, not both",
        ),
        (
            "  - {path: a, overlap_words: 101}\n",
            "task.yaml:6: passages[1].overlap_words: 101 is more than half of `passage_words` (200)",
        ),
        ("  - {path: a, weight: 0}\n", "task.yaml:6: passages[1].weight: input should be greater than 0 (given: '0')"),
        ("  - {path: a, wieght: 1}\n", "there is no such key; did you mean weight?"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_line(tmp_path: Path, passages: str, message: str) -> None:
    with pytest.raises(DefinitionError) as fault:
        load(tmp_path, passages)
    assert message in fault.value.message
