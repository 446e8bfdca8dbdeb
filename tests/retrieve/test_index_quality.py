"""The benchmark's test collections: both layouts read alike, and measures worked out by hand."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from retrieval_engines.collection import ndcg, read_collection, recall

TREC = {
    "documents.trec": "<DOC>\n<DOCNO>d1</DOCNO>\nRivers &amp; banks\n</DOC>\n<doc><docno> d2 </docno><title>Mills"
    "</title><text>grind\ncorn</text></doc>\n<DOC><DOCNO>d3</DOCNO>stones</DOC>",
    "topics": "<top>\n<num> Number: 7\n<title> river banks\n<desc> What is a bank?\n</top>\n"
    "<top><num>8</num><title>\nmills\n</title></top>\n<top><num>9</num><title>nothing</title></top>",
    "qrels": "7 0 d1 2\n7 0 d2 1\n7 0 d3 0\n8 0 d2 1\n9 0 d1 0\n",
    "README.md": "7 0 d3 3",
}
BEIR = {
    "corpus.jsonl": [
        {"_id": "d1", "title": "", "text": "Rivers & banks"},
        {"_id": "d2", "title": "Mills", "text": "grind corn"},
        {"_id": "d3", "text": "stones"},
    ],
    "queries.jsonl": [{"_id": "7", "text": "river banks"}, {"_id": "8", "text": "mills"}, {"_id": "9", "text": "x"}],
}


def test_trec_files_and_beirs_layout_give_the_same_collection(tmp_path: Path) -> None:
    trec, beir = tmp_path / "trec", tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    trec.mkdir()
    for name, content in TREC.items():
        (trec / name).write_text(content, encoding="utf-8")
    for name, rows in BEIR.items():
        (beir / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judgements = "query-id\tcorpus-id\tscore\n7\td1\t2\n7\td2\t1\n7\td3\t0\n8\td2\t1\n"
    (beir / "qrels" / "test.tsv").write_text(judgements, encoding="utf-8")
    for collection in (read_collection(trec), read_collection(beir)):
        assert collection.documents == {"d1": "Rivers & banks", "d2": "Mills grind corn", "d3": "stones"}
        assert collection.queries == {"7": "river banks", "8": "mills"}
        assert collection.relevance == {"7": {"d1": 2, "d2": 1}, "8": {"d2": 1}}


def test_a_folder_without_a_collection_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no documents; give BEIR's layout, or files with <DOC>"):
        read_collection(tmp_path)


def test_ndcg_by_hand() -> None:
    relevance = {"a": 2, "b": 1}
    best = 2 / math.log2(2) + 1 / math.log2(3)
    assert ndcg(["a", "b", "x"], relevance) == 1
    assert ndcg(["x", "b", "a"], relevance) == pytest.approx((1 / math.log2(3) + 2 / math.log2(4)) / best)
    assert ndcg(["x"] * 10 + ["a"], relevance) == 0
    assert ndcg([], relevance) == 0


def test_recall_by_hand() -> None:
    assert recall(["a", "x", "b"], {"a": 1, "b": 2, "c": 1, "d": 1}) == 0.5
    assert recall(["x", "a"], {"a": 1}, depth=1) == 0
