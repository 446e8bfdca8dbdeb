"""Rows of JSON lines, Parquet, Arrow and data sets: what is read, what is skipped, what is cut."""

import json
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from taskdef.errors import LibraryError
from taskdef.records import Passage, PassageSource
from taskdef.retrieve import rows
from taskdef.retrieve.library import iter_passages
from taskdef.retrieve.skips import SkipLog, SkipReason

TABLE = {"body": ["Rivers flow.", None, "  ", "Seas wait.", "Rivers flow."], "n": [1, 2, 3, 4, 5]}
EXPECTED = [("#1", "Rivers flow."), ("#4", "Seas wait.")]
EXPECTED_SKIPS = {SkipReason.NO_TEXT: 2, SkipReason.DUPLICATE: 1}


def read(source: PassageSource) -> tuple[list[Passage], SkipLog]:
    skipped = SkipLog()
    return list(iter_passages(source, skipped)), skipped


def test_parquet_rows(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table(TABLE), tmp_path / "t.parquet", row_group_size=2)
    found, skipped = read(PassageSource(path=tmp_path / "t.parquet", text_field="body"))
    assert [(p.id, p.text, p.source) for p in found] == [
        (f"t.parquet{place}", text, f"t.parquet:{place[1:]}") for place, text in EXPECTED
    ]
    assert skipped.counts == EXPECTED_SKIPS


def test_what_datasets_saves_to_disk(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(TABLE).save_to_disk(tmp_path / "saved")
    found, skipped = read(PassageSource(path=tmp_path / "saved", text_field="body"))
    assert [(p.id.removeprefix("data-00000-of-00001.arrow"), p.text) for p in found] == EXPECTED
    assert skipped.counts == EXPECTED_SKIPS | {SkipReason.UNKNOWN_KIND: 2}  # its two .json files


def test_a_data_set_in_a_folder_is_streamed_by_split(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"body": text}) + "\n" for text in TABLE["body"])
    (tmp_path / "train.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "test.jsonl").write_text('{"body": "Held out."}\n', encoding="utf-8")
    found, skipped = read(PassageSource(hub=str(tmp_path), text_field="body"))
    assert [(p.id, p.text, p.source) for p in found] == [
        (f"train{place}", text, f"{tmp_path}, train:{place[1:]}") for place, text in EXPECTED
    ]
    assert skipped.counts == EXPECTED_SKIPS
    found, _ = read(PassageSource(hub=str(tmp_path), text_field="body", split="test"))
    assert [p.text for p in found] == ["Held out."]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_field": "text"}, "no field 'text' (it has body)"),
        ({"split": "dev", "text_field": "body"}, 'Bad split: dev. Available splits: ["train"]'),
    ],
)
def test_a_data_set_that_cannot_be_used_is_an_error(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    (tmp_path / "train.jsonl").write_text('{"body": "Rivers."}\n', encoding="utf-8")
    with pytest.raises(LibraryError) as fault:
        read(PassageSource.model_validate({"hub": str(tmp_path)} | changes))
    assert message in fault.value.message.replace("'train'", '"train"')
    assert fault.value.next_step is not None


@pytest.mark.parametrize(
    ("name", "content", "reason", "why"),
    [
        ("t.parquet", b"PAR1 cut off", SkipReason.BROKEN, "no Parquet file that can be read: "),
        ("t.parquet", b"", SkipReason.BROKEN, "no Parquet file that can be read: "),
        ("t.arrow", b"no arrow", SkipReason.BROKEN, "no Arrow file that can be read: "),
        ("t.jsonl", b"", SkipReason.EMPTY, "empty"),
        ("t.jsonl", '{"text": "a"}'.encode("utf-16"), SkipReason.UNKNOWN_ENCODING, "UTF-16; save JSON lines as UTF-8"),
        ("t.jsonl", b"\x00" * 100, SkipReason.BINARY, "binary content (it holds NUL bytes)"),
    ],
)
def test_a_file_that_gives_nothing_says_why(
    tmp_path: Path, name: str, content: bytes, reason: SkipReason, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    found, skipped = read(PassageSource(path=tmp_path / name))
    assert found == []
    ((entry),) = skipped.named
    assert (entry.what, entry.reason) == (name, reason)
    assert entry.why.startswith(why)


def test_a_table_without_the_field_is_named_once(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table(TABLE), tmp_path / "t.parquet")
    _, skipped = read(PassageSource(path=tmp_path / "t.parquet"))
    assert [(entry.reason, entry.why) for entry in skipped.named] == [
        (SkipReason.NO_FIELD, "no field 'text' (it has body, n)")
    ]


def test_a_damaged_parquet_keeps_the_rows_before_the_damage(tmp_path: Path) -> None:
    texts = [f"Passage {number} of the table." for number in range(1000)]
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=100, compression="zstd")
    content = bytearray(path.read_bytes())
    start = content.rindex(b"\x28\xb5\x2f\xfd", 0, len(content) // 2)  # the head of a compressed page in the middle
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    found, skipped = read(PassageSource(path=path))
    assert 0 < len(found) < 1000
    assert [p.text for p in found] == texts[: len(found)]
    assert [entry.reason for entry in skipped.named] == [SkipReason.BROKEN]


def test_json_lines_in_an_older_encoding(tmp_path: Path) -> None:
    texts = ["Les rivières débordent à l'été.", "La forêt est près de la mer."]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    (tmp_path / "t.jsonl").write_bytes(lines.encode("latin-1"))
    found, skipped = read(PassageSource(path=tmp_path / "t.jsonl"))
    assert [p.text for p in found] == texts
    assert skipped.total == 0


def test_a_line_beyond_the_limit_is_skipped_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROW_BYTES", 1 << 20)
    long = json.dumps({"text": "x" * (1 << 20)})
    (tmp_path / "t.jsonl").write_text(f'{{"text": "a"}}\n{long}\n{{"text": "b"}}\n{long}', encoding="utf-8")
    found, skipped = read(PassageSource(path=tmp_path / "t.jsonl"))
    assert [(p.id, p.text) for p in found] == [("t.jsonl#1", "a"), ("t.jsonl#3", "b")]
    assert [(s.what, s.why) for s in skipped.named] == [
        ("t.jsonl:2", "longer than 1 MiB"),
        ("t.jsonl:4", "longer than 1 MiB"),
    ]


def test_long_rows_are_cut_and_rows_a_little_too_long_are_not(tmp_path: Path) -> None:
    texts = ["a b. c d. e.", "a b. c d. e f. g h."]  # 5 words are 5/4 of 4
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    found, _ = read(PassageSource(path=tmp_path / "t.jsonl", passage_words=4))
    assert [(p.id, p.text, p.source) for p in found] == [
        ("t.jsonl#1", "a b. c d. e.", "t.jsonl:1"),
        ("t.jsonl#2.1", "a b. c d.", "t.jsonl:2"),
        ("t.jsonl#2.2", "e f. g h.", "t.jsonl:2"),
    ]
