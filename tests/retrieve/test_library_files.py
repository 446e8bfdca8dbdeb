"""Which files of a folder are read, and that ids, order and versions hold from run to run."""

import os
from pathlib import Path

import pytest

from taskdef.errors import LibraryError
from taskdef.records import PassageSource
from taskdef.retrieve.duplicates import TextHashes
from taskdef.retrieve.files import FileKind, library_files
from taskdef.retrieve.library import iter_file_passages, iter_passages
from taskdef.retrieve.skips import SkipLog, SkipReason


def listing(folder: Path) -> tuple[list[str], list[tuple[str, SkipReason]]]:
    skipped = SkipLog()
    files = library_files(PassageSource(path=folder), skipped)
    return [file.name for file in files], [(entry.what, entry.reason) for entry in skipped.named]


def test_files_come_by_name_and_hidden_ones_not(tmp_path: Path) -> None:
    folder = tmp_path / "lib"
    for name in ("b.TXT", "a/z.md", "a/.git/c.txt", ".d.txt", "c.jsonl"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")
    files = library_files(PassageSource(path=folder))
    assert [(file.name, file.shown, file.kind) for file in files] == [
        ("a/z.md", "lib/a/z.md", FileKind.TEXT),
        ("b.TXT", "lib/b.TXT", FileKind.TEXT),
        ("c.jsonl", "lib/c.jsonl", FileKind.JSON_LINES),
    ]


def test_a_version_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Rivers.", encoding="utf-8")
    source = PassageSource(path=tmp_path)
    (first,) = library_files(source)
    assert library_files(source) == [first]
    os.utime(path, ns=(0, 1))
    (second,) = library_files(source)
    assert second.version != first.version


def test_links_are_followed_once_and_loops_are_named(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "lib"
    (folder / "inner").mkdir(parents=True)
    outside.mkdir()
    (outside / "o.txt").write_text("Outside.", encoding="utf-8")
    (outside / "back").symlink_to(folder)
    (folder / "inner" / "i.txt").write_text("Inside.", encoding="utf-8")
    (folder / "inner" / "up").symlink_to(folder)
    (folder / "inner" / "above").symlink_to(tmp_path)
    (folder / "linked").symlink_to(outside)
    (folder / "linked-again").symlink_to(outside)
    (folder / "self.txt").symlink_to("self.txt")
    (folder / "gone.txt").symlink_to("nothing.txt")
    files, skipped = listing(folder)
    assert files == ["inner/i.txt", "linked/o.txt"]
    assert skipped == [
        ("lib/gone.txt", SkipReason.UNREADABLE),
        ("lib/inner/above", SkipReason.LINK_LOOP),
        ("lib/inner/up", SkipReason.LINK_LOOP),
        ("lib/linked/back", SkipReason.LINK_LOOP),
        ("lib/linked-again", SkipReason.LINK_LOOP),
        ("lib/self.txt", SkipReason.LINK_LOOP),
    ]


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    assert listing(tmp_path) == ([], [(f"{tmp_path.name}/a.txt", SkipReason.NOT_A_FILE)])
    with pytest.raises(LibraryError, match="neither a file nor a folder"):
        library_files(PassageSource(path=tmp_path / "a.txt"))


def test_a_name_that_is_no_utf8_is_spelled_out(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))).write_text("Rivers.", encoding="utf-8")
    (passage,) = iter_passages(PassageSource(path=tmp_path), SkipLog())
    assert passage.id == "caf\\xe9.txt#1"


def test_one_file_gives_what_the_whole_library_gives_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.\n\nTwo.", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "Three."}\n{"text": "Three."}\n{"text": "Four."}\n', encoding="utf-8")
    source = PassageSource(path=tmp_path, passage_words=1)
    whole = list(iter_passages(source, SkipLog()))
    assert [passage.id for passage in whole] == ["a.txt#1", "a.txt#2", "b.jsonl#1", "b.jsonl#3"]
    single = [passage for file in library_files(source) for passage in iter_file_passages(file, source, SkipLog())]
    assert single == whole


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.", encoding="utf-8")
    source = PassageSource(path=tmp_path)
    (file,) = library_files(source)
    (tmp_path / "a.txt").unlink()  # gone between listing and reading
    skipped = SkipLog()
    assert list(iter_file_passages(file, source, skipped)) == []
    assert [(entry.reason, entry.why) for entry in skipped.named] == [
        (SkipReason.UNREADABLE, "cannot be read: No such file or directory")
    ]


def test_text_hashes_tell_texts_apart_while_the_table_grows() -> None:
    hashes = TextHashes()
    assert all(hashes.add(f"text {number}") for number in range(5000))
    assert not any(hashes.add(f"text {number}") for number in range(5000))


def test_the_log_counts_all_and_names_the_first() -> None:
    log = SkipLog(keep=2)
    for number in range(5):
        log.add(f"a.jsonl:{number}", SkipReason.NOT_JSON, "not JSON")
    log.add("b.pdf", SkipReason.BROKEN, "no PDF")
    assert log.total == 6
    assert list(log.lines()) == [
        "a.jsonl:0: not JSON",
        "a.jsonl:1: not JSON",
        "b.pdf: no PDF",
        "… 3 more: not json",
    ]
