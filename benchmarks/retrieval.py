"""What does retrieval cost at the size of an encyclopedia, and how good is its ranking? Engines side by side.

    python benchmarks/retrieval.py PASSAGES.jsonl [--sizes 10000 100000 1000000] [--engines taskdef tantivy …]
    python benchmarks/retrieval.py --collection FOLDER… [--embedding MODEL] [--reranker MODEL]

The first form takes real passages (corpus.py cuts them out of documentation) and measures for each size and engine, in
processes of their own: the build, from the first passage read to the index being on disk; its peak memory over the
bare interpreter's, all processes of the engine added up, pages that they share counted once; the size on disk, texts
included; a query of 20 words for 10,000 passages, with ids, scores and texts, as the wall time of a whole new process
(interpreter and imports included, files in the system's cache) and again in a process that has the index open. Growth
from size to size is printed, and what it comes to for Wikipedia's 21 million passages.

The second form takes test collections with judgements, in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/test.tsv)
or as TREC files (<DOC>, <top>, judgements), and prints nDCG@10 and recall@100 of taskdef and bm25s, and of taskdef by
meaning and by both where the extra `dense` is installed. A query is one ranking by words and one by meaning, as
`retrieve.method=hybrid` has them for each keyword; a reranker reads the first 200.

rank-bm25 keeps every word of every passage as a Python object: it runs up to --rank-bm25-most passages.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from retrieval_engines.collection import Collection, ndcg, read_collection, recall
from retrieval_engines.engines import BUILD, QUERY

from taskdef.records import Passage
from taskdef.retrieve.dense import DenseIndex
from taskdef.retrieve.fusion import merge_rankings
from taskdef.retrieve.index import Index
from taskdef.retrieve.language_models import INSTALL, Embedder, Reranker
from taskdef.retrieve.methods import rerank
from taskdef.terminal import progress_on_stderr

SCRIPT = Path(__file__).parent / "retrieval_engines" / "engines.py"
WORDS = [
    *("network", "protocol", "security", "key", "encryption", "certificate", "authentication", "server", "client"),
    *("message", "transport", "session", "layer", "header", "option", "field", "address", "routing", "packet"),
    "congestion",
]
RESULTS = 10_000
WIKIPEDIA = 21_000_000
COLD_PROCESSES = 5
DEPTH, RERANKED = 1000, 200
"""Of each ranking before they are merged; passages that a cross-encoder reads."""


@dataclass(frozen=True)
class Row:
    """One engine at one size. Seconds and bytes."""

    engine: str
    passages: int
    build: float
    cpu: float
    """Of the build's processes together, imports included: what is left of a comparison where others use the cores."""
    peak: int
    """Of the build, over the bare interpreter."""
    disk: int
    cold: float
    """A whole process that opens the index and gets the results: the median of several."""
    cold_worst: float
    again: float
    found: int
    query_peak: int


def measure(engine: str, passages: Path, count: int, scratch: Path) -> Row:
    folder = scratch / f"{engine}-{count}"
    shutil.rmtree(folder, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "build", engine, str(passages), str(count), str(folder), str(RESULTS), *WORDS],
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = watch(process)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.stdout is not None
    built = json.loads(process.stdout.read() or "{}")
    if process.returncode:
        sys.exit(f"{engine} ended with status {process.returncode} at {count:,} passages")
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != "library.jsonl")
    walls, answers = [], []
    for _ in range(COLD_PROCESSES if engine in QUERY else 0):
        started = time.perf_counter()
        line = subprocess.check_output(
            [sys.executable, str(SCRIPT), "query-once", engine, str(folder), str(RESULTS), *WORDS]
        )
        walls.append(time.perf_counter() - started)
        answers.append(json.loads(line))
    again = None
    if engine in QUERY:
        again = json.loads(
            subprocess.check_output([sys.executable, str(SCRIPT), "query", engine, str(folder), str(RESULTS), *WORDS])
        )
    return Row(
        engine,
        count,
        built["seconds"],
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        max(0, peak - bare_interpreter()),
        disk,
        statistics.median(walls) if walls else built["seconds"],
        max(walls) if walls else built["seconds"],
        again["again"] if again else built["again"],
        answers[0]["found"] if answers else built["found"],
        answers[0]["peak"] if answers else peak,
    )


def watch(process: subprocess.Popen[str]) -> int:
    """The most memory that a process and those it started hold at once, shared pages counted once (PSS)."""
    peak = 0
    while process.poll() is None:
        try:
            family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        except psutil.NoSuchProcess:
            break
        peak = max(peak, sum(map(proportional_size, family)))
        time.sleep(0.1)
    process.wait()
    return peak


def proportional_size(number: int) -> int:
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def bare_interpreter() -> int:
    code = "import re; print(*re.findall(r'^Pss:\\s+(\\d+)', open('/proc/self/smaps_rollup').read(), re.M))"
    return int(subprocess.check_output([sys.executable, "-c", code])) * 1024


# --- printing --------------------------------------------------------------------------------------------------


def print_rows(rows: list[Row]) -> None:
    print(
        f"\n{'passages':>10} {'engine':<16} {'build s':>8} {'cpu s':>7} {'peak MB':>8} {'disk MB':>8} "
        f"{'cold query s':>13} {'worst':>6} {'again s':>8} {'results':>8}"
    )
    for row in sorted(rows, key=lambda row: row.passages):
        print(
            f"{row.passages:>10,} {row.engine:<16} {row.build:>8.1f} {row.cpu:>7.1f} {row.peak / 1e6:>8.0f} "
            f"{row.disk / 1e6:>8.0f} {row.cold:>13.2f} {row.cold_worst:>6.2f} {row.again:>8.3f} {row.found:>8,}"
        )


def print_growth(rows: list[Row]) -> None:
    """How each figure grows with the passages, and what the largest two sizes come to for Wikipedia."""
    for engine in dict.fromkeys(row.engine for row in rows):
        own = sorted((row for row in rows if row.engine == engine), key=lambda row: row.passages)
        for small, large in pairwise(own):
            print(
                f"{engine}: {large.passages / small.passages:.0f} x the passages: "
                f"build x {large.build / small.build:.1f}, "
                f"peak x {large.peak / max(1, small.peak):.1f}, disk x {large.disk / max(1, small.disk):.1f}, "
                f"cold query x {large.cold / small.cold:.1f}, again x {large.again / small.again:.1f}"
            )
        if len(own) > 1:
            small, large = own[-2:]
            print(
                f"{engine}: at {WIKIPEDIA:,} on the line through the last two sizes: build "
                f"{_line(small, large, 'build') / 60:.0f} min, disk {_line(small, large, 'disk') / 1e9:.0f} GB, "
                f"peak {_line(small, large, 'peak') / 1e9:.1f} GB, cold query {_line(small, large, 'cold'):.1f} s, "
                f"again {_line(small, large, 'again'):.1f} s"
            )


def _line(small: Row, large: Row, name: str) -> float:
    low, high = getattr(small, name), getattr(large, name)
    return high + (high - low) / (large.passages - small.passages) * (WIKIPEDIA - large.passages)


def print_verdicts(rows: list[Row]) -> None:
    """The claims, each with the figures that decide it."""
    size = max(row.passages for row in rows)
    at_size = {row.engine: row for row in rows if row.passages == size}
    own = at_size.get("taskdef")
    others = [row for name, row in at_size.items() if not name.startswith("taskdef")]
    if own is None or not others:
        return
    fastest = min(others, key=lambda row: row.build)
    print(f"\nat {size:,} passages:")
    print(
        f"  build: {own.build / fastest.build:.2f} of the fastest other's "
        f"({own.build:.1f} s, {fastest.engine} {fastest.build:.1f} s; cpu {own.cpu:.1f} and {fastest.cpu:.1f} s)"
    )
    print(f"  peak:  {own.peak / 2**30:.2f} GiB above the interpreter")
    print(f"  query: {own.cold:.2f} s for {own.found:,} passages from a cold process (worst {own.cold_worst:.2f} s)")


# --- quality ---------------------------------------------------------------------------------------------------


def taskdef_index(collection: Collection) -> Index:
    return Index([Passage(id=name, text=text, source=name) for name, text in collection.documents.items()])


def rankings_of_taskdef(collection: Collection, index: Index) -> dict[str, list[str]]:
    return {query: [passage.id for passage in index.search(text, 100)] for query, text in collection.queries.items()}


def rankings_by_meaning(
    collection: Collection, index: Index, embedding: str, reranker: str | None
) -> dict[str, dict[str, list[str]]]:
    """The rankings of dense, hybrid, and hybrid reranked."""
    with progress_on_stderr() as progress:
        started = time.perf_counter()
        dense = DenseIndex(index, Embedder(embedding), progress)
    print(f"  {embedding}: {time.perf_counter() - started:.0f} s until all documents had vectors")
    cross_encoder = Reranker(reranker) if reranker is not None else None
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for query, text in collection.queries.items():
        (meanings,) = dense.rankings([text], DEPTH)
        both = merge_rankings([(1.0, index.hits(text, DEPTH)), (1.0, meanings)], DEPTH)
        passages = index.passages(both, text)
        found["taskdef, dense"][query] = [passage.id for passage in index.passages(meanings[:100], text)]
        found["taskdef, hybrid"][query] = [passage.id for passage in passages[:100]]
        if cross_encoder is not None:
            first = rerank(passages, text, cross_encoder, RERANKED)
            found["taskdef, hybrid, reranked"][query] = [passage.id for passage in first[:100]]
    return found


def rankings_of_bm25s(collection: Collection, *, own_words: bool) -> dict[str, list[str]]:
    """bm25s with its own tokens (its stop words, the same stemmer), or with taskdef's."""
    import bm25s
    import Stemmer

    from taskdef.retrieve.tokens import build_analysis, words_of

    analysis = build_analysis()

    def tokens(texts: list[str]) -> list[list[str]]:
        if own_words:
            stemmer = Stemmer.Stemmer("english")
            return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
        return [[term.decode() for term in analysis.terms(words_of(text.encode())) if term] for text in texts]

    names = list(collection.documents)
    retriever = bm25s.BM25()
    retriever.index(tokens(list(collection.documents.values())), show_progress=False)
    rankings = {}
    for query, text in collection.queries.items():
        known = [token for token in tokens([text])[0] if token in retriever.vocab_dict]
        scores = retriever.get_scores(known) if known else []
        order = sorted((i for i in range(len(scores)) if scores[i] > 0), key=lambda i: (-scores[i], i))
        rankings[query] = [names[i] for i in order[:100]]
    return rankings


def compare_quality(folder: Path, embedding: str, reranker: str | None) -> dict[str, Any]:
    collection = read_collection(folder)
    print(f"\n{collection.name}: {len(collection.documents):,} documents, {len(collection.queries)} judged queries")
    index = taskdef_index(collection)
    systems = {
        "taskdef": rankings_of_taskdef(collection, index),
        "bm25s": rankings_of_bm25s(collection, own_words=True),
        "bm25s, taskdef's words": rankings_of_bm25s(collection, own_words=False),
    }
    if importlib.util.find_spec("sentence_transformers") is None:
        print(f"  not run: dense and hybrid ({INSTALL})")
    else:
        systems |= rankings_by_meaning(collection, index, embedding, reranker)
    found = {}
    for system, rankings in systems.items():
        scores = {
            "ndcg@10": statistics.fmean(ndcg(rankings[q], collection.relevance[q]) for q in collection.queries),
            "recall@100": statistics.fmean(recall(rankings[q], collection.relevance[q]) for q in collection.queries),
        }
        found[system] = scores
        print(f"  {system:<26} nDCG@10 {scores['ndcg@10']:.4f}   recall@100 {scores['recall@100']:.4f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("passages", nargs="?", type=Path)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--engines", nargs="+", choices=list(BUILD), default=list(BUILD))
    parser.add_argument("--rank-bm25-most", type=int, default=100_000)
    parser.add_argument("--collection", nargs="+", type=Path, default=[])
    parser.add_argument("--embedding", default="builtin:minilm-l6", help="as retrieve.embedding")
    parser.add_argument("--reranker", help="as retrieve.reranker")
    parser.add_argument("--scratch", type=Path, help="where indexes are built and removed; a temporary folder")
    parser.add_argument("--out", type=Path, help="the same figures as JSON")
    options = parser.parse_args()
    if options.passages is None and not options.collection:
        parser.error("give a file of passages (benchmarks/corpus.py makes one), or --collection FOLDER")
    engines = ", ".join(f"{name} {version(name)}" for name in ("tantivy", "bm25s", "rank-bm25", "numpy", "pyarrow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, {engines}")
    quality = {
        str(folder): compare_quality(folder, options.embedding, options.reranker) for folder in options.collection
    }
    rows: list[Row] = []
    if options.passages is not None:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            for count in options.sizes:
                for engine in options.engines:
                    if engine == "rank-bm25" and count > options.rank_bm25_most:
                        print(f"{count:>10,} {engine:<16} not run: above --rank-bm25-most")
                        continue
                    rows.append(measure(engine, options.passages, count, Path(scratch)))
                    print(f"  {json.dumps(asdict(rows[-1]))}", flush=True)
                    shutil.rmtree(Path(scratch) / f"{engine}-{count}", ignore_errors=True)
        print_rows(rows)
        print_growth(rows)
        print_verdicts(rows)
    if options.out:
        options.out.write_text(json.dumps({"rows": [asdict(row) for row in rows], "quality": quality}, indent=1))


if __name__ == "__main__":
    main()
