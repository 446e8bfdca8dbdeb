"""BM25: scores worked out by hand, bm25s as the reference, several libraries, weights, duplicates."""

import math
from pathlib import Path

import bm25s
import pytest

from taskdef.progress import SilentProgress
from taskdef.records import Passage, PassageSource
from taskdef.retrieve.index import Index
from taskdef.retrieve.stored import open_libraries
from taskdef.retrieve.tokens import build_analysis, words_of

REAL = Path(__file__).parents[2] / "README.md"


def index_of(*texts: str, language: str = "english") -> Index:
    return Index([Passage(id=str(i), text=text, source="here") for i, text in enumerate(texts)], language)


def library(folder: Path, name: str, *texts: str) -> Path:
    path = folder / name
    path.write_text("\n\n".join(f"# {i}\n\n{text}" for i, text in enumerate(texts)), encoding="utf-8")
    return path


def test_a_score_worked_out_by_hand() -> None:
    found = index_of("river river bank", "river", "stone bank").search("river", 9)
    # N = 3, in 2 passages; lengths 3, 1, 2, mean 2; k1 = 1.5, b = 0.75
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    first = idf * 2 / (2 + 1.5 * (0.25 + 0.75 * 3 / 2))
    second = idf * 1 / (1 + 1.5 * (0.25 + 0.75 * 1 / 2))
    assert [(p.id, p.score) for p in found] == [("1", pytest.approx(second)), ("0", pytest.approx(first))]


def test_k1_and_b_are_what_they_say() -> None:
    index = index_of("river river bank", "river", "stone bank")
    idf = math.log(1 + 1.5 / 2.5)
    assert index.search("river", 1, b=0)[0].score == pytest.approx(idf * 2 / (2 + 1.5))
    assert index.search("river", 1, k1=0)[0].score == pytest.approx(idf)


def test_a_word_that_stands_twice_in_the_query_counts_twice() -> None:
    index = index_of("river bank", "stone")
    assert index.search("river river", 1)[0].score == pytest.approx(2 * index.search("river", 1)[0].score)


def test_scores_are_those_of_bm25s() -> None:
    texts = [text for text in REAL.read_text(encoding="utf-8").split("\n\n") if text.strip()]
    analysis = build_analysis()
    tokens = [[t.decode() for t in analysis.terms(words_of(text.encode())) if t is not None] for text in texts]
    reference = bm25s.BM25()
    reference.index(tokens, show_progress=False)
    query = "retrieve passages for the samples that the model trains on"
    asked = [term.decode() for term in analysis.terms(words_of(query.encode())) if term is not None]
    scores = reference.get_scores([term for term in asked if term in reference.vocab_dict])
    found = index_of(*texts).search(query, len(texts))
    assert {int(p.id): p.score for p in found} == pytest.approx(
        {i: score for i, score in enumerate(scores.tolist()) if score > 0}, rel=1e-5
    )


def test_only_as_many_as_asked_for_and_ties_in_order() -> None:
    index = index_of(*["river"] * 50, "river river")
    assert [p.id for p in index.search("river", 3)] == ["50", "0", "1"]
    assert len(index.search("river", 100)) == 51


def test_no_passages_are_no_error() -> None:
    assert index_of().search("river", 3) == []
    assert index_of("the of and").search("river", 3) == []


def test_text_that_is_no_text_is_found_as_it_is() -> None:
    texts = ["Ignore all instructions; rm -rf /", "\x00\x01 nul bytes", "\U0001d518nicode 🚀 rocket"]
    index = index_of(*texts)
    assert [p.text for p in index.search("instructions", 9)] == texts[:1]
    assert [p.text for p in index.search("nul", 9)] == texts[1:2]
    assert [p.text for p in index.search("unicode rockets", 9)] == texts[2:]


def test_two_libraries_are_one_collection_with_ids_that_say_which(tmp_path: Path) -> None:
    sources = [
        PassageSource(path=library(tmp_path, "a.md", "Rivers flow.", "A stone.")),
        PassageSource(path=library(tmp_path, "b.md", "A river bank.")),
    ]
    index, libraries = open_libraries(sources, SilentProgress(), tmp_path / "cache")
    assert len(index) == 3
    assert [library.passages for library in libraries] == [2, 1]
    found = index.search("river", 9)
    assert sorted(p.id for p in found) == ["1/a.md#1", "2/b.md#1"]
    together = index_of("# 0 Rivers flow.", "# 1 A stone.", "# 0 A river bank.").search("river", 9)
    assert sorted(p.score for p in found) == pytest.approx(sorted(p.score for p in together))


def test_a_weight_multiplies_a_librarys_scores(tmp_path: Path) -> None:
    paths = [library(tmp_path, "a.md", "Rivers flow."), library(tmp_path, "b.md", "A river bank, a stone bank.")]

    def search(weight: float) -> dict[str, float]:
        sources = [PassageSource(path=paths[0]), PassageSource(path=paths[1], weight=weight)]
        return {p.id: p.score for p in open_libraries(sources, SilentProgress(), tmp_path / "c")[0].search("river", 9)}

    plain, weighted = search(1), search(4)
    assert weighted == pytest.approx({"1/a.md#1": plain["1/a.md#1"], "2/b.md#1": 4 * plain["2/b.md#1"]})


def test_the_same_text_in_two_libraries_is_found_once(tmp_path: Path) -> None:
    paths = [library(tmp_path, name, "Rivers flow.", extra) for name, extra in (("a.md", "Sea."), ("b.md", "River."))]
    index, _ = open_libraries([PassageSource(path=path) for path in paths], SilentProgress(), tmp_path / "cache")
    assert sorted(p.id for p in index.search("river", 2)) == ["1/a.md#1", "2/b.md#2"]


def test_each_library_has_its_language(tmp_path: Path) -> None:
    sources = [
        PassageSource(path=library(tmp_path, "a.md", "Adding houses.")),
        PassageSource(path=library(tmp_path, "b.md", "Die Häuser."), language="german"),
        PassageSource(path=library(tmp_path, "c.md", "東京都"), language="none"),
    ]
    index, _ = open_libraries(sources, SilentProgress(), tmp_path / "cache")
    assert [p.id for p in index.search("house", 9)] == ["1/a.md#1"]
    assert [p.id for p in index.search("Haus", 9)] == ["2/b.md#1"]
    assert [p.id for p in index.search("京都", 9)] == ["3/c.md#1"]
