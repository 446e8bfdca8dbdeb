"""An index follows its library: files added, changed, removed, moved; damage, locks, and what is not read again."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taskdef.errors import LibraryError
from taskdef.progress import SilentProgress
from taskdef.records import Passage, PassageSource
from taskdef.retrieve import index_build, part_build, stored
from taskdef.retrieve.index import Index
from taskdef.retrieve.index_build import update_index
from taskdef.retrieve.index_state import PARTS, STATE, IndexState
from taskdef.retrieve.open_library import open_library
from taskdef.retrieve.stored import index_folder, open_libraries
from taskdef.retrieve.tokens import build_analysis

QUERIES = ("river", "stone bank river", "sum of numbers", "number 7", "mill", "nothing here")
ENGLISH = build_analysis()


@dataclass
class TextFile:
    """A file of a library with its passages at hand; counts how often it is read."""

    name: str
    texts: list[str]
    stamp: str = "1"
    read_count: int = field(default=0, compare=False)

    def read(self) -> Iterator[Passage]:
        self.read_count += 1
        for i, text in enumerate(self.texts):
            yield Passage(id=f"{self.name}#{i}", text=text, source=f"{self.name}:{i}")

    def notes(self) -> Any:
        return [self.name]


def lines(kind: str, count: int) -> list[str]:
    return [f"{kind} number {i} and the sum of {i % 7} stones" for i in range(count)]


def results(index: Index) -> list[list[tuple[str, str, float]]]:
    return [[(p.id, p.source, p.score) for p in index.search(query, 10_000)] for query in QUERIES]


def update(folder: Path, files: list[TextFile]) -> tuple[IndexState, Index]:
    for file in files:
        file.read_count = 0
    state = update_index(folder, files, ENGLISH, SilentProgress())
    return state, Index.over([open_library(folder, state, ENGLISH)])


def assert_like_a_clean_build(folder: Path, files: list[TextFile], clean: Path) -> None:
    _, index = update(folder, files)
    assert results(index) == results(update(clean, [TextFile(file.name, file.texts) for file in files])[1])


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_build, "PASSAGES", 8)
    monkeypatch.setattr(index_build, "PASSAGES", 8)


def test_nothing_new_reads_nothing_and_writes_nothing(tmp_path: Path) -> None:
    files = [TextFile("a", lines("river", 5)), TextFile("b", lines("mill", 5))]
    update(tmp_path / "index", files)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")}
    update(tmp_path / "index", files)
    assert [file.read_count for file in files] == [0, 0]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")} == before


@pytest.mark.parametrize(
    ("changed", "read"),
    [
        ([("a", "river", "1"), ("b", "mill", "1"), ("c", "stone", "1")], [0, 0, 1]),
        ([("a", "river", "1"), ("b", "bank", "2")], [0, 1]),
        ([("a", "river", "1")], [0]),
        ([("b", "mill", "1")], [0]),
        ([("b", "mill", "1"), ("a", "river", "1")], [0, 0]),
        ([("0", "mill", "1"), ("a", "river", "1"), ("b", "mill", "1")], [1, 0, 0]),
        ([], []),
    ],
    ids=["added", "changed", "last removed", "first removed", "other order", "copied before", "all removed"],
)
def test_an_update_reads_only_what_is_new_and_finds_what_a_clean_build_finds(
    tmp_path: Path, changed: list[tuple[str, str, str]], read: list[int]
) -> None:
    update(tmp_path / "index", [TextFile("a", lines("river", 5)), TextFile("b", lines("mill", 5))])
    files = [TextFile(name, lines(kind, 5), stamp) for name, kind, stamp in changed]
    assert_like_a_clean_build(tmp_path / "index", files, tmp_path / "clean")
    assert [file.read_count for file in files] == read


def test_a_text_comes_back_when_its_first_copy_goes(tmp_path: Path) -> None:
    a, b = TextFile("a", ["River bank.", "Mill."]), TextFile("b", ["River bank.", "Stone."])
    state, index = update(tmp_path, [a, b])
    assert (len(index), state.duplicates, state.repeated) == (3, 1, ["b:0"])
    assert [p.id for p in index.search("river", 9)] == ["a#0"]
    _, index = update(tmp_path, [b])
    assert [p.id for p in index.search("river", 9)] == ["b#0"]


@pytest.mark.usefixtures("small_parts")
def test_many_updates_keep_few_parts(tmp_path: Path) -> None:
    files: list[TextFile] = []
    for i in range(12):
        files.append(TextFile(f"{i:02}", lines(f"kind{i} river", 3)))
        state, _ = update(tmp_path / "index", files)
        assert sum(part.owned <= 4 for part in state.parts) <= index_build.SMALL_PARTS + 1
    assert_like_a_clean_build(tmp_path / "index", files, tmp_path / "clean")
    assert sorted(path.name for path in (tmp_path / "index" / PARTS).iterdir()) == sorted(p.name for p in state.parts)


@pytest.mark.usefixtures("small_parts")
def test_parts_built_in_other_processes_give_the_same_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [TextFile("a", lines("river", 50)), TextFile("b", lines("mill", 20))]
    state, index = update(tmp_path / "index", files)
    assert len(state.parts) == 9
    monkeypatch.setattr(part_build, "PASSAGES", 65_536)
    assert results(index) == results(update(tmp_path / "one", files)[1])


@pytest.mark.parametrize("damage", ["remove", "cut", "overwrite"])
@pytest.mark.parametrize("name", ["texts.bin", "index.bin"])
def test_a_lost_or_damaged_part_is_built_again(tmp_path: Path, damage: str, name: str) -> None:
    files = [TextFile("a", lines("river", 5)), TextFile("b", lines("mill", 3)), TextFile("c", lines("stone", 3))]
    for count in (1, 2, 3):  # a part each
        state, _ = update(tmp_path / "index", files[:count])
    path = tmp_path / "index" / PARTS / state.parts[1].name / name
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif name == "index.bin":
        path.write_bytes(b"\0" * path.stat().st_size)
    assert_like_a_clean_build(tmp_path / "index", files, tmp_path / "clean")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 0}', b'{"version": 1, "files": 3}', b"\xff"])
def test_a_state_that_cannot_be_read_is_built_again(tmp_path: Path, content: bytes) -> None:
    files = [TextFile("a", lines("river", 5))]
    update(tmp_path / "index", files)
    (tmp_path / "index" / STATE).write_bytes(content)
    assert_like_a_clean_build(tmp_path / "index", files, tmp_path / "clean")
    assert len(list((tmp_path / "index" / PARTS).iterdir())) == 1


def test_a_reader_that_gives_less_than_before_is_believed(tmp_path: Path) -> None:
    update(tmp_path / "index", [TextFile("a", lines("river", 9)), TextFile("b", lines("mill", 2))])
    state = json.loads((tmp_path / "index" / STATE).read_bytes())
    state["files"]["a"]["passages"] = None  # as a kill leaves it
    (tmp_path / "index" / STATE).write_text(json.dumps(state), encoding="utf-8")
    files = [TextFile("a", lines("river", 4)), TextFile("b", lines("mill", 2))]
    assert_like_a_clean_build(tmp_path / "index", files, tmp_path / "clean")


def test_an_open_index_outlives_the_folder(tmp_path: Path) -> None:
    _, index = update(tmp_path / "index", [TextFile("a", ["River bank."])])
    shutil.rmtree(tmp_path / "index")
    assert [p.text for p in index.search("river", 1)] == ["River bank."]


def write(folder: Path, name: str, *rows: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def test_what_was_skipped_is_said_again_when_nothing_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    write(folder, "a.jsonl", {"text": "River."}, {"body": "no text"}, {"text": "River."})
    write(folder, "b.jsonl", {"text": "River."}, 3)
    (folder / "c.xyz").write_text("?", encoding="utf-8")
    said = []
    for _ in range(2):
        _, (library,) = open_libraries([PassageSource(path=folder)], SilentProgress(), tmp_path / "cache")
        assert (library.source, library.passages) == (str(folder), 1)
        said.append((sorted(library.skipped.lines()), library.skipped.total))
    assert said[0] == said[1]
    assert said[0][1] == 5
    assert [line.partition(": ")[0] for line in said[0][0]] == [
        "library/a.jsonl:2",
        "library/a.jsonl:3",
        "library/b.jsonl:1",
        "library/b.jsonl:2",
        "library/c.xyz",
    ]


def test_each_way_of_reading_a_library_has_its_own_index(tmp_path: Path) -> None:
    path = tmp_path / "library"
    plain = PassageSource(path=path)
    folders = [
        index_folder(source, tmp_path)
        for source in (
            plain,
            PassageSource(path=tmp_path / "other"),
            PassageSource(path=path, text_field="body"),
            PassageSource(path=path, language="german"),
            PassageSource(path=path, passage_words=100),
            PassageSource(path=path, overlap_words=10),
        )
    ]
    assert len(set(folders)) == 6
    assert index_folder(PassageSource(path=path, weight=2), tmp_path) == folders[0]
    assert index_folder(PassageSource(path=path / ".." / "library"), tmp_path) == folders[0]
    assert folders[0].name.startswith("library-")


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    write(tmp_path / "library", "a.jsonl", {"text": "River."})
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(LibraryError) as fault:
        open_libraries([PassageSource(path=tmp_path / "library")], SilentProgress(), tmp_path / "cache")
    assert str(tmp_path / "cache") in fault.value.message
    assert "the index cannot be kept there: Not a directory" in fault.value.message
    assert fault.value.next_step == "free space there, or set TASKDEF_CACHE to a folder on another disk"


def test_a_new_way_of_cutting_builds_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = index_folder(PassageSource(path=tmp_path), tmp_path)
    monkeypatch.setattr(stored, "READING", stored.READING + 1)
    assert index_folder(PassageSource(path=tmp_path), tmp_path) != before
