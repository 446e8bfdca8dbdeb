"""How passages are chosen, by ``retrieve.method``: the ways that help, and those that show what helping is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskdef.config import RetrieveConfig
from taskdef.records import Passage
from taskdef.retrieve.dense import DenseIndex
from taskdef.retrieve.fusion import document_of, merge_rankings, spread_documents, take_turns
from taskdef.retrieve.index import Index
from taskdef.retrieve.keywords import Search
from taskdef.retrieve.language_models import Reranker
from taskdef.retrieve.ranking import Hit


@dataclass(frozen=True)
class LanguageModels:
    """What a method needs beside the index."""

    dense: DenseIndex | None = None
    """For ``dense`` and ``hybrid``."""
    reranker: Reranker | None = None


NO_MODELS = LanguageModels()


def find_passages(
    index: Index,
    searches: Sequence[Search],
    config: RetrieveConfig,
    seed: int,
    models: LanguageModels = NO_MODELS,
) -> list[Passage]:
    """The passages that samples are written from, in the order they are used.

    A passage's score is BM25's for all keywords together, whatever the method, so that methods can be compared.
    """
    everything = " ".join(search.whole for search in searches)
    match config.method:
        case "random":
            found = index.passages(index.drawn(config.passages, seed), everything)
        case "adversarial":
            found = index.passages(index.least_relevant(everything, config.passages, seed), everything)
        case _:
            found = take_turns([_best(index, search, config, models) for search in searches], config.passages)
    return [passage.model_copy(update={"document": document_of(passage.id)}) for passage in found]


def _best(index: Index, search: Search, config: RetrieveConfig, models: LanguageModels) -> list[Passage]:
    """One search's passages, best first but for documents that were used before.

    The whole query counts as much as all topics together: a keyword that says nothing ("give", "find") would else have
    a say as large as the field's own name. Words and meanings count alike.
    """
    count = config.passages
    weights = [*[1.0] * len(search.topics), max(1.0, len(search.topics))]
    rankings: list[tuple[float, list[Hit]]] = []
    if config.method != "dense":
        words = [index.hits(query, count) for query in (*search.topics, search.whole)]
        rankings += zip(weights, words, strict=True)
    if models.dense is not None:
        rankings += zip(weights, models.dense.rankings([*search.topics, search.subject], count), strict=True)
    passages = index.passages(merge_rankings(rankings, count), search.whole)
    if models.reranker is not None:
        passages = rerank(passages, search.subject, models.reranker, config.rerank)
    order = spread_documents([document_of(passage.id) for passage in passages])
    return [passages[place].model_copy(update={"domain": search.domain}) for place in order]


def rerank(passages: list[Passage], query: str, reranker: Reranker, count: int) -> list[Passage]:
    """The first ``count`` by what the cross-encoder says, best first, equal ones in their order; then the others."""
    scores = reranker.scores(query, [passage.text for passage in passages[:count]]).tolist()
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return [passages[place] for place in order] + passages[count:]
