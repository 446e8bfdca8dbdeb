"""How passages are chosen, by ``retrieve.method``: the ways that help, and those that show what helping is worth."""

from __future__ import annotations

from collections.abc import Sequence

from taskdef.config import RetrieveConfig
from taskdef.records import Passage
from taskdef.retrieve.fusion import document_of, merge_rankings, spread_documents, take_turns
from taskdef.retrieve.index import Index
from taskdef.retrieve.keywords import Search


def find_passages(index: Index, searches: Sequence[Search], config: RetrieveConfig, seed: int) -> list[Passage]:
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
            found = take_turns([_best(index, search, config.passages) for search in searches], config.passages)
    return [passage.model_copy(update={"document": document_of(passage.id)}) for passage in found]


def _best(index: Index, search: Search, count: int) -> list[Passage]:
    """One search's passages, best first but for documents that were used before.

    The whole query counts as much as all topics together: a keyword that says nothing ("give", "find") would else have
    a say as large as the field's own name.
    """
    rankings = [(1.0, index.hits(topic, count)) for topic in search.topics]
    rankings.append((max(1.0, len(rankings)), index.hits(search.whole, count)))
    passages = index.passages(merge_rankings(rankings, count), search.whole)
    order = spread_documents([document_of(passage.id) for passage in passages])
    return [passages[place].model_copy(update={"domain": search.domain}) for place in order]
