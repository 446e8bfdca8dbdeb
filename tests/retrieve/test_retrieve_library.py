"""Reading libraries: what becomes a passage, what is skipped and how that is said."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from taskdef.config import RetrieveConfig
from taskdef.errors import LibraryError
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.progress import SilentProgress
from taskdef.records import Passage, PassageSource, TaskDefinition
from taskdef.retrieve.library import iter_passages
from taskdef.retrieve.skips import SkipLog, Skipped
from taskdef.retrieve.stage import retrieve_passages
from taskdef.retrieve.stored import open_libraries


def read(path: Path, **reading: Any) -> tuple[list[Passage], list[Skipped]]:
    skipped = SkipLog()
    passages = list(iter_passages(PassageSource(path=path, **reading), skipped))
    return passages, skipped.named


def test_json_lines_become_passages_and_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_bytes(
        b'{"text": "Two and two are four."}\n'
        b"\n"
        b'{"text": "cut off\n'
        b'{"body": "elsewhere"}\n'
        b'{"text": "   "}\n'
        b'{"text": "\xff"}\n'
        b'{"body": "\xc3\xa9"}\n'
        b"[1, 2]\n"
        b'{"text": " Two and two are four. "}\n'
        b'{"text": "Ten is even."}'
    )
    passages, skipped = read(path)
    assert [(p.id, p.text, p.source) for p in passages] == [
        ("facts.jsonl#1", "Two and two are four.", "facts.jsonl:1"),
        ("facts.jsonl#10", "Ten is even.", "facts.jsonl:10"),
    ]
    assert [(s.what, s.why) for s in skipped] == [
        ("facts.jsonl:3", "not JSON"),
        ("facts.jsonl:4", "no field 'text' (it has body)"),
        ("facts.jsonl:5", "'text' holds no text"),
        ("facts.jsonl:6", "not UTF-8"),
        ("facts.jsonl:7", "no field 'text' (it has body)"),
        ("facts.jsonl:8", "'text' holds no text"),
        ("facts.jsonl:9", "same text as an earlier passage"),
    ]


def test_half_a_surrogate_pair_in_a_passage_can_be_written_on(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(r'{"text": "Rivers \ud83d flow."}', encoding="utf-8")
    passages, _ = read(path)
    assert [passage.text for passage in passages] == ["Rivers ? flow."]


def test_a_folder_gives_its_files_in_order_and_names_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    (folder / "inner").mkdir(parents=True)
    (folder / "b.txt").write_text("River water.\n\nMore of it.", encoding="utf-8")
    (folder / "a.jsonl").write_text('{"body": "Sums."}\n', encoding="utf-8")
    (folder / "inner" / "c.md").write_text("# One\n\nfirst\n\n# Two\n\nsecond", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / ".hidden").write_text("no", encoding="utf-8")
    passages, skipped = read(folder, text_field="body")
    assert [(p.id, p.text) for p in passages] == [
        ("a.jsonl#1", "Sums."),
        ("b.txt#1", "River water.\n\nMore of it."),
        ("inner/c.md#1", "# One\n\nfirst"),
        ("inner/c.md#2", "# Two\n\nsecond"),
        ("latin.txt#1", "café"),
    ]
    assert [(s.what, s.why) for s in skipped] == [
        (
            "library/picture.png",
            "not one of .arrow, .docx, .htm, .html, .jsonl, .markdown, .md, .ndjson, .parquet, .pdf, .txt, .xhtml",
        ),
    ]


def test_ids_of_several_sources_do_not_collide(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text(f"Rivers of {name}.", encoding="utf-8")
    sources = [PassageSource(path=tmp_path / name / "notes.txt") for name in ("x", "y")]
    index, _ = open_libraries(sources, SilentProgress(), tmp_path / "cache")
    assert [p.id for p in index.search("rivers", 9)] == ["1/notes.txt#1", "2/notes.txt#1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.jsonl", None, "no such passage library"),
        ("table.csv", "a,b", ".csv is no kind of passage library"),
        ("empty.txt", "", "no passages; empty.txt: empty"),
        ("rows.jsonl", '{"body": 1}', "no passages; rows.jsonl:1: no field 'text' (it has body)"),
    ],
)
def test_a_library_that_gives_nothing_is_an_error(
    tmp_path: Path, sums: TaskDefinition, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    task = sums.model_copy(update={"passages": (PassageSource(path=tmp_path / name),)})
    with pytest.raises(LibraryError) as fault:
        asyncio.run(retrieve_passages(task, RetrieveConfig(), instructor=ProceduralInstructor("chain_sum", seed=0)))
    assert message in str(fault.value)
    assert "next:" in str(fault.value)
