"""Test collections with judgements: read from files, and the measures that are taken on them."""

from __future__ import annotations

import html
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DOCUMENT = re.compile(r"<doc>(.*?)</doc>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"<docno>\s*(.*?)\s*</docno>", re.DOTALL | re.IGNORECASE)
_TOPIC = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
_TOPIC_NUMBER = re.compile(r"<num>\s*(?:number:)?\s*([^\s<]+)", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(.*?)\s*(?:</title>|(?=<)|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")
_JUDGEMENT = re.compile(r"(\S+)\s+\S+\s+(\S+)\s+(-?\d+)\s*")


@dataclass(frozen=True)
class Collection:
    """Documents, queries, and which documents a person found relevant to which query, and how much."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    relevance: dict[str, dict[str, int]]
    """Query -> document -> degree; those of 0 and below are left out."""


def read_collection(folder: Path) -> Collection:
    """BEIR's layout (corpus.jsonl, queries.jsonl, qrels/test.tsv), or any files in TREC's formats, told by their
    content. Queries without a relevant document are left out, as trec_eval does. Ends where a piece is missing."""
    read = _read_beir if (folder / "corpus.jsonl").exists() else _read_trec
    documents, queries, relevance = read(folder)
    judged = {number: text for number, text in queries.items() if relevance.get(number)}
    for what, found in (("documents", documents), ("queries with relevant documents", judged)):
        if not found:
            sys.exit(f"{folder}: no {what}; give BEIR's layout, or files with <DOC>, <top> and lines of judgements")
    return Collection(folder.name, documents, judged, relevance)


def _read_beir(folder: Path) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    documents = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in _rows(folder / "corpus.jsonl")}
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    relevance: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, degree = line.split("\t")
        if int(degree) > 0:
            relevance[query][document] = int(degree)
    return documents, queries, dict(relevance)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _read_trec(folder: Path) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    relevance: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"):
        text = path.read_text(encoding="utf-8", errors="replace")
        for content in _DOCUMENT.findall(text):
            if number := _NUMBER.search(content):
                documents[number[1]] = _plain(_NUMBER.sub("", content))
        for content in _TOPIC.findall(text):
            number, title = _TOPIC_NUMBER.search(content), _TITLE.search(content)
            if number and title:
                queries[number[1]] = _plain(title[1])
        lines = [line for line in text.splitlines() if line.strip()]
        judgements = [_JUDGEMENT.fullmatch(line.strip()) for line in lines]
        if lines and all(judgements):
            for judgement in judgements:
                assert judgement is not None
                if int(judgement[3]) > 0:
                    relevance[judgement[1]][judgement[2]] = int(judgement[3])
    return documents, queries, dict(relevance)


def _plain(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


def ndcg(ranking: list[str], relevance: dict[str, int], depth: int = 10) -> float:
    """Normalized discounted cumulative gain with the degrees as gains, as trec_eval's ndcg_cut."""
    gained = sum(relevance.get(document, 0) / math.log2(i + 2) for i, document in enumerate(ranking[:depth]))
    best = sorted(relevance.values(), reverse=True)[:depth]
    return gained / sum(degree / math.log2(i + 2) for i, degree in enumerate(best))


def recall(ranking: list[str], relevance: dict[str, int], depth: int = 100) -> float:
    """The share of the relevant documents among the first ``depth``."""
    return len(set(ranking[:depth]) & set(relevance)) / len(relevance)
