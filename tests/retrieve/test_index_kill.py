"""Builds and updates that are killed, and two at once: what is found afterwards is what a clean build finds."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskdef.progress import SilentProgress
from taskdef.records import PassageSource
from taskdef.retrieve.stored import open_libraries

QUERIES = ("river", "stone bank river", "sum of numbers", "mill wheel 7", "forest")
WORDS = ("river", "stone", "bank", "sum", "number", "mill", "wheel", "forest", "corn", "water", "miller", "road")

BUILD = """
import sys
from pathlib import Path
from taskdef.progress import SilentProgress
from taskdef.records import PassageSource
from taskdef.retrieve import index_build, part_build
from taskdef.retrieve.stored import open_libraries

part_build.PASSAGES = index_build.PASSAGES = 100
print("ready", flush=True)
open_libraries([PassageSource(path=Path(sys.argv[1]), passage_words=20)], SilentProgress(), Path(sys.argv[2]))
print("done", flush=True)
"""


def start(library: Path, cache: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(library), str(cache)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def write_file(library: Path, number: int, content: random.Random) -> None:
    paragraphs = (" ".join(content.choices(WORDS, k=18)) + "." for _ in range(40))
    (library / f"{number:02}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")


def found(library: Path, cache: Path) -> list[list[tuple[str, str, float]]]:
    source = PassageSource(path=library, passage_words=20)
    index, _ = open_libraries([source], SilentProgress(), cache)
    return [[(p.id, p.text, p.score) for p in index.search(query, 1000)] for query in QUERIES]


def change_files(library: Path, chance: random.Random) -> None:
    for _ in range(8):
        write_file(library, chance.randrange(30), chance)
    (library / f"{chance.randrange(30):02}.txt").unlink(missing_ok=True)


def kill_one(library: Path, cache: Path, longest: float, chance: random.Random) -> bool:
    """Start a build or an update and kill it at some moment; False where it was done before."""
    process = start(library, cache)
    time.sleep(chance.uniform(0, longest))
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_leave_an_index_that_becomes_the_clean_one(tmp_path: Path, kills: int) -> None:
    library, cache = tmp_path / "library", tmp_path / "cache"
    library.mkdir()
    chance = random.Random(kills)
    for number in range(20):
        write_file(library, number, chance)
    timed = start(library, tmp_path / "timed")
    begun = time.monotonic()
    assert timed.wait() == 0
    longest = 0.9 * (time.monotonic() - begun)

    killed = 0
    while killed < kills:  # while it is built: each goes on where the one before was killed
        if kill_one(library, cache, longest, chance):
            killed += 1
        else:
            shutil.rmtree(cache)
    assert start(library, cache).wait() == 0
    assert found(library, cache) == found(library, tmp_path / "clean")

    killed = 0
    while (
        killed < kills
    ):  # while it is extended: files added, changed and removed under a whole index or a half-done one
        change_files(library, chance)
        killed += kill_one(library, cache, longest, chance)
    assert found(library, cache) == found(library, tmp_path / "clean again")
    (index,) = (cache / "indexes").iterdir()
    names = {path.name for path in index.iterdir()}
    assert {name for name in names if not name.startswith("alive-")} == {".lock", "state.json", "parts"}


def test_two_processes_that_build_one_index_both_succeed(tmp_path: Path) -> None:
    library, cache = tmp_path / "library", tmp_path / "cache"
    library.mkdir()
    for number in range(20):
        write_file(library, number, random.Random(number))
    processes = [start(library, cache) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert found(library, cache) == found(library, tmp_path / "clean")
