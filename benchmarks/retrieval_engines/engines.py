"""One process, one measurement: build an index of real passages with one engine, or answer a query from it.

    python benchmarks/retrieval_engines/engines.py build ENGINE PASSAGES COUNT FOLDER RESULTS WORD...
    python benchmarks/retrieval_engines/engines.py query|query-once ENGINE FOLDER RESULTS WORD...

Prints one line of JSON. Every engine reads the same JSON lines the same way and is used as its own documentation shows
first; rank-bm25, which keeps nothing on disk, answers right after building. Seconds of a
build run from the first passage read to the index being on disk; imports are not in them. Results are ids, scores and
texts.
"""

from __future__ import annotations

import importlib
import json
import re
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

Result = tuple[str, float, str]


def texts(path: Path, count: int) -> Iterator[str]:
    """The first ``count`` passages of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        for line in islice(file, count):
            yield json.loads(line)["text"]


# --- taskdef ---------------------------------------------------------------------------------------------------


def build_taskdef(path: Path, count: int, folder: Path) -> None:
    """The engine alone, fed by the same reader as the others."""
    from taskdef.progress import SilentProgress
    from taskdef.records import Passage
    from taskdef.retrieve.index_build import update_index
    from taskdef.retrieve.tokens import build_analysis

    class File:
        name, stamp = path.name, "1"

        def read(self) -> Iterator[Passage]:
            for i, text in enumerate(texts(path, count)):
                yield Passage(id=f"{path.name}#{i}", text=text, source=f"{path.name}:{i}")

        def notes(self) -> Any:
            return None

    update_index(folder, [File()], build_analysis(), SilentProgress())


def query_taskdef(folder: Path, count: int, words: list[str]) -> list[Result]:
    from taskdef.retrieve.index import Index
    from taskdef.retrieve.index_state import IndexState
    from taskdef.retrieve.open_library import open_library
    from taskdef.retrieve.tokens import Analysis

    state = IndexState.read(folder)
    assert state is not None
    analysis = Analysis(state.analysis["language"], frozenset(state.analysis["stop_words"]))
    index = Index.over([open_library(folder, state, analysis)])
    return [(passage.id, passage.score, passage.text) for passage in index.search(" ".join(words), count)]


def build_library(path: Path, count: int, folder: Path) -> None:
    """As `taskdef run` does it: the library read, checked, cleaned and cut as well."""
    from taskdef.progress import SilentProgress
    from taskdef.records import PassageSource
    from taskdef.retrieve.stored import open_libraries

    folder.mkdir(parents=True)
    part = folder / "library.jsonl"
    with part.open("w", encoding="utf-8") as file, path.open(encoding="utf-8") as lines:
        file.writelines(islice(lines, count))
    start_again()
    open_libraries([PassageSource(path=part)], SilentProgress(), folder)


def query_library(folder: Path, count: int, words: list[str]) -> list[Result]:
    from taskdef.progress import SilentProgress
    from taskdef.records import PassageSource
    from taskdef.retrieve.stored import open_libraries

    index, _ = open_libraries([PassageSource(path=folder / "library.jsonl")], SilentProgress(), folder)
    return [(passage.id, passage.score, passage.text) for passage in index.search(" ".join(words), count)]


# --- the others ------------------------------------------------------------------------------------------------


def build_rank_bm25(path: Path, count: int, folder: Path) -> Callable[[list[str], int], list[Result]]:
    """Nothing is kept on disk: the query comes with the index in memory."""
    import numpy as np
    from rank_bm25 import BM25Okapi

    corpus = list(texts(path, count))
    index = BM25Okapi([re.findall(r"\w\w+", text.lower()) for text in corpus])

    def query(words: list[str], results: int) -> list[Result]:
        scores = index.get_scores(words)
        return [(str(i), float(scores[i]), corpus[i]) for i in np.argsort(-scores)[:results]]

    return query


def build_bm25s(path: Path, count: int, folder: Path) -> None:
    import bm25s
    import Stemmer

    corpus = list(texts(path, count))
    tokens = bm25s.tokenize(corpus, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)
    retriever = bm25s.BM25()
    retriever.index(tokens, show_progress=False)
    retriever.save(folder, corpus=corpus, show_progress=False)


def query_bm25s(folder: Path, count: int, words: list[str]) -> list[Result]:
    import bm25s
    import Stemmer

    retriever = bm25s.BM25.load(folder, load_corpus=True, mmap=True)
    query = bm25s.tokenize(" ".join(words), stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)
    found, scores = retriever.retrieve(query, k=min(count, len(retriever.corpus)), show_progress=False)
    return [(str(row["id"]), float(score), row["text"]) for row, score in zip(found[0], scores[0], strict=True)]


def build_tantivy(path: Path, count: int, folder: Path) -> None:
    _build_tantivy(path, count, folder, "default")


def build_tantivy_stemmed(path: Path, count: int, folder: Path) -> None:
    _build_tantivy(path, count, folder, "en_stem")


def _build_tantivy(path: Path, count: int, folder: Path, tokenizer: str) -> None:
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("id", stored=True, tokenizer_name="raw")
    schema.add_text_field("text", stored=True, tokenizer_name=tokenizer)
    folder.mkdir(parents=True)
    index = tantivy.Index(schema.build(), path=str(folder))
    writer = index.writer()
    for i, text in enumerate(texts(path, count)):
        writer.add_document(tantivy.Document(id=str(i), text=text))
    writer.commit()
    writer.wait_merging_threads()


def query_tantivy(folder: Path, count: int, words: list[str]) -> list[Result]:
    import tantivy

    index = tantivy.Index.open(str(folder))
    searcher = index.searcher()
    hits = searcher.search(index.parse_query(" ".join(words), ["text"]), count).hits
    documents = ((score, searcher.doc(address)) for score, address in hits)
    return [(document["id"][0], score, document["text"][0]) for score, document in documents]


def build_fts5(path: Path, count: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "index.sqlite")) as database:
        database.execute("CREATE VIRTUAL TABLE passages USING fts5(text, tokenize='porter unicode61')")
        database.executemany("INSERT INTO passages (text) VALUES (?)", ((text,) for text in texts(path, count)))
        database.commit()


def query_fts5(folder: Path, count: int, words: list[str]) -> list[Result]:
    with closing(sqlite3.connect(folder / "index.sqlite")) as database:
        rows = database.execute(
            "SELECT rowid, rank, text FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?",
            (" OR ".join(f'"{word}"' for word in words), count),
        )
        return [(str(number), -rank, text) for number, rank, text in rows]


BUILD: dict[str, Callable[[Path, int, Path], Any]] = {
    "taskdef": build_taskdef,
    "taskdef-library": build_library,
    "tantivy": build_tantivy,
    "tantivy-stemmed": build_tantivy_stemmed,
    "bm25s": build_bm25s,
    "fts5": build_fts5,
    "rank-bm25": build_rank_bm25,
}
QUERY: dict[str, Callable[[Path, int, list[str]], list[Result]]] = {
    "taskdef": query_taskdef,
    "taskdef-library": query_library,
    "tantivy": query_tantivy,
    "tantivy-stemmed": query_tantivy,
    "bm25s": query_bm25s,
    "fts5": query_fts5,
}
IMPORTS = {
    "taskdef": ("taskdef.retrieve.stored", "pyarrow.compute", "scipy.sparse", "Stemmer"),
    "taskdef-library": ("taskdef.retrieve.stored", "pyarrow.compute", "scipy.sparse", "Stemmer"),
    "tantivy": ("tantivy",),
    "tantivy-stemmed": ("tantivy",),
    "bm25s": ("bm25s", "Stemmer"),
    "fts5": (),
    "rank-bm25": ("rank_bm25",),
}
_started = 0.0


def start_again() -> None:
    """What came before is preparation."""
    global _started
    _started = time.perf_counter()


def main() -> None:
    kind, engine, *rest = sys.argv[1:]
    if kind == "build":
        for module in IMPORTS[engine]:
            importlib.import_module(module)
        start_again()
        held = BUILD[engine](Path(rest[0]), int(rest[1]), Path(rest[2]))
        measured: dict[str, float] = {"seconds": time.perf_counter() - _started}
        if callable(held):  # an index in memory alone
            start_again()
            measured |= {"found": len(held(rest[4:], int(rest[3]))), "again": time.perf_counter() - _started}
        print(json.dumps(measured))
        return
    folder, count, words = Path(rest[0]), int(rest[1]), rest[2:]
    seconds = []
    for _ in range(1 if kind == "query-once" else 3):
        start_again()
        found = QUERY[engine](folder, count, words)
        seconds.append(time.perf_counter() - _started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"again": min(seconds), "found": len(found), "peak": peak}))


if __name__ == "__main__":
    main()
