"""BM25 over passages (paper section 3.1: R = BM25(K, library)), by bm25s with English stemming and stop words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskdef.instruct.words import stemmer, stop_words
from taskdef.records import Passage


class Index:
    """An index in memory over a fixed list of passages."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        import bm25s  # here: it takes a third of a second, which `taskdef --help` must not pay

        self.passages = passages
        self._bm25: Any = bm25s.BM25()
        self._bm25.index(self._tokens([passage.text for passage in passages]), show_progress=False)

    def search(self, query: str, count: int) -> list[Passage]:
        """The best ``count`` passages with their scores, best first, ties in the library's order.

        Passages that share no word with the query are left out, so there may be fewer, or none.
        """
        import numpy

        known = [token for token in self._tokens([query])[0] if token in self._bm25.vocab_dict]
        if not known:
            return []
        scores = self._bm25.get_scores(known)
        order = numpy.argsort(-scores, kind="stable")[:count]
        return [self.passages[i].model_copy(update={"score": float(scores[i])}) for i in order if scores[i] > 0]

    @staticmethod
    def _tokens(texts: list[str]) -> list[list[str]]:
        from bm25s import tokenize

        tokens: list[list[str]] = tokenize(
            texts, stopwords=sorted(stop_words()), stemmer=stemmer(), return_ids=False, show_progress=False
        )
        return tokens
