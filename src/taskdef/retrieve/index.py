"""BM25 over passages (paper section 3.1: R = BM25(K, library)), from indexes that stay on disk.

    score(q, d) = sum over the words t of q of  ln(1 + (N - n_t + 0.5) / (n_t + 0.5)) * f / (f + k1 (1 - b + b |d| / m))

f: how often t stands in d; n_t: passages that hold t; N: all passages; |d|: words of d; m: mean of |d|. This is
Lucene's form, which bm25s takes by default; rank-bm25's differs in how it treats words that stand in over half of the
passages, and by a factor k1 + 1, which changes no order. Sums are in double precision in the order of the query's
words and over exact counts, so a library's results are the same however its index came to be: built in one go, after
a kill, or file by file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from taskdef.progress import SilentProgress
from taskdef.records import Passage
from taskdef.retrieve.open_library import OpenLibrary, open_library
from taskdef.retrieve.part import Part
from taskdef.retrieve.ranking import Best, Hit, Ranking
from taskdef.retrieve.tokens import build_analysis, words_of

K1 = 1.5
B = 0.75
"""The defaults of rank-bm25 and bm25s."""


class Index:
    """Passages that can be searched: those given (equal texts too), or by ``over`` those of indexes on disk.

    Several libraries are searched as if they were one: what is rare is rare in all of them together. Each cuts and
    stems the query as it did its texts.
    """

    def __init__(self, passages: Sequence[Passage], language: str = "english") -> None:
        import tempfile  # here, as the next: opening an index does without what builds one

        from taskdef.retrieve.index_build import update_index

        analysis = build_analysis(language)
        with tempfile.TemporaryDirectory(prefix="taskdef-index-") as folder:  # what is mapped outlives its name
            state = update_index(Path(folder), [_InMemory(passages)], analysis, SilentProgress(), distinct=False)
            self._set([open_library(Path(folder), state, analysis)])

    @classmethod
    def over(cls, libraries: Sequence[OpenLibrary]) -> Self:
        """Over one or more libraries. Where they are several, ids are led by the library's number, from 1."""
        index = cls.__new__(cls)
        index._set(libraries)
        return index

    def _set(self, libraries: Sequence[OpenLibrary]) -> None:
        self._libraries = libraries
        self._parts = [part for library in libraries for part in library.parts]
        self._library_of = [number for number, library in enumerate(libraries) for _ in library.parts]
        self._passages = sum(library.passages for library in libraries)
        self._mean_length = max(1.0, sum(library.terms for library in libraries) / max(1, self._passages))

    def __len__(self) -> int:
        return self._passages

    def search(self, query: str, count: int, *, k1: float = K1, b: float = B) -> list[Passage]:
        """The best ``count`` passages with their scores, best first, ties in the library's order.

        Passages that share no word with the query are left out, so there may be fewer, or none. A word that stands
        several times in the query counts as often. Of passages with the same text in several libraries only the one
        with the best score is returned.
        """
        return self._read(self._search(query, count, k1, b))

    def hits(self, query: str, count: int) -> list[Hit]:
        """What ``search`` finds, without reading a text: for rankings that are merged with others first."""
        return self._search(query, count, K1, B).hits()

    def least_relevant(self, query: str, count: int, seed: int) -> list[Hit]:
        """The ``count`` passages with the lowest scores, lowest first; among those without a score by chance."""
        rng = np.random.default_rng(seed)
        scored = self._scored_parts(self._query_terms(query), K1, B)
        keyed = ((n, np.where(s > 0, 1 / (1 + s), 1 + rng.random(len(s)))[:, None]) for n, s in scored)
        return self.highest(keyed, 1, count)[0]

    def drawn(self, count: int, seed: int) -> list[Hit]:
        """``count`` passages by chance, in a random order; a library's passages weigh as much as the library does."""
        rng = np.random.default_rng(seed)
        # Efraimidis and Spirakis 2006: the highest u^(1/w) are a sample without replacement by weight.
        drawn = ((n, rng.random((len(part), 1)) ** (1 / self.weights[n])) for n, part in enumerate(self.contents))
        return self.highest(drawn, 1, count)[0]

    @property
    def contents(self) -> list[Part]:
        """The parts of all libraries, in their order."""
        return [part.content for part in self._parts]

    @property
    def weights(self) -> list[float]:
        """For each part the weight of its library."""
        return [self._libraries[library].weight for library in self._library_of]

    def highest(self, keyed: Iterator[tuple[int, NDArray[np.float64]]], columns: int, count: int) -> list[list[Hit]]:
        """For each column the passages with the highest keys, highest first; of equal texts the first.

        ``keyed`` gives every part's number with its keys (passages x columns); a key that is not above 0 takes part in
        no ranking.
        """
        wanted = count * len(self._libraries)  # a text stands at most once in each
        best = [Best(wanted) for _ in range(columns)]
        for number, keys in keyed:
            alive = self._parts[number].alive
            for column, of_column in zip(keys.T, best, strict=True):
                of_column.add(number, column if alive is None else np.where(alive, column, 0))
        return [self._first_hits(self._ordered(*of_column.arrays(), wanted), count) for of_column in best]

    def _first_hits(self, ranking: Ranking, count: int) -> list[Hit]:
        if len(self._libraries) > 1:
            ranking = ranking.at(self._first_of_equals(ranking)[:count])
        return ranking.hits()

    def passages(self, hits: Sequence[Hit], query: str) -> list[Passage]:
        """The passages with their scores for ``query`` (0 where they share no word with it), in the order given."""
        wanted: dict[int, list[int]] = {}
        for place, hit in enumerate(hits):
            wanted.setdefault(hit.part, []).append(place)
        scores = np.zeros(len(hits))
        for part, of_part in self._scored_parts(self._query_terms(query), K1, B) if hits else ():
            places = wanted.get(part, [])
            scores[places] = of_part[[hits[place].number for place in places]]
        places_of = np.array(hits, dtype=np.int64).reshape(-1, 2)
        ranking = Ranking(scores, places_of[:, 0], places_of[:, 1])
        return self._read(ranking)

    def _search(self, query: str, count: int, k1: float, b: float) -> Ranking:
        words = self._query_terms(query)
        return self._distinct(lambda wanted: self._rank(words, wanted, k1, b), count)

    def _distinct(self, rank: Callable[[int], Ranking], count: int) -> Ranking:
        """The first ``count`` of a ranking; where there are several libraries, without the texts that came before."""
        wanted = count
        while True:
            ranking = rank(wanted)
            if len(self._libraries) == 1:
                return ranking
            chosen = self._first_of_equals(ranking)[:count]
            if len(chosen) >= count or len(ranking.scores) < wanted:
                return ranking.at(chosen)
            wanted *= 2

    def _query_terms(self, query: str) -> Counter[tuple[bytes | None, ...]]:
        """Each word of the query as every library's term (None where it does not count there), and how often."""
        words = words_of(query.encode("utf-8", "replace"))
        return Counter(zip(*(library.analysis.terms(words) for library in self._libraries), strict=True))

    def _rank(self, words: Counter[tuple[bytes | None, ...]], count: int, k1: float, b: float) -> Ranking:
        best = Best(count)
        for number, scores in self._scored_parts(words, k1, b):
            best.add(number, scores)
        return self._ordered(*best.arrays(), count)

    def _scored_parts(
        self, words: Counter[tuple[bytes | None, ...]], k1: float, b: float
    ) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Every part's number with the scores of its passages; what is not searched scores 0."""
        found = [
            [part.content.postings(term) if (term := word[library]) is not None else None for word in words]
            for part, library in zip(self._parts, self._library_of, strict=True)
        ]
        holding = np.zeros(len(words))
        for part, postings in zip(self._parts, found, strict=True):
            for i, posting in enumerate(postings):
                if posting is not None:
                    holding[i] += len(posting[0]) if part.alive is None else np.count_nonzero(part.alive[posting[0]])
        weights = np.log1p((self._passages - holding + 0.5) / (holding + 0.5)) * np.array(list(words.values()))
        for number, (part, postings) in enumerate(zip(self._parts, found, strict=True)):
            lengths = part.content.arrays.lengths
            norms = k1 * (1 - b + b * lengths / self._mean_length)
            scores = np.zeros(len(lengths))
            weights_here = weights * self._libraries[self._library_of[number]].weight
            for weight, posting in zip(weights_here, postings, strict=True):
                if posting is not None:
                    places, counts = posting[0].astype(np.intp), posting[1].astype(np.float64)
                    scores[places] += weight * (counts / (counts + norms[places]))
            if part.alive is not None:
                scores[~part.alive] = 0
            yield number, scores

    def _ordered(
        self, scores: NDArray[np.float64], parts: NDArray[np.int64], numbers: NDArray[np.int64], count: int
    ) -> Ranking:
        ranks, positions = np.empty(len(scores), np.int64), np.empty(len(scores), np.int64)
        for number in np.unique(parts):
            here = parts == number
            ranks[here], positions[here] = self._parts[number].order(numbers[here])
        libraries = np.array(self._library_of, dtype=np.int64)[parts]
        order = np.lexsort((positions, ranks, libraries, -scores))[:count]
        return Ranking(scores[order], parts[order], numbers[order])

    def _first_of_equals(self, ranking: Ranking) -> NDArray[np.int64]:
        """The places whose text stands at no place before them."""
        digests = np.empty(len(ranking.scores), np.uint64)
        for part in np.unique(ranking.parts).tolist():
            here = ranking.parts == part
            digests[here] = self._parts[part].content.arrays.digests[ranking.numbers[here]]
        return np.sort(np.unique(digests, return_index=True)[1])

    def _read(self, ranking: Ranking) -> list[Passage]:
        """The passages of a ranking, in its order; read part by part, each from its beginning to its end."""
        found: dict[int, Passage] = {}
        for part in np.unique(ranking.parts).tolist():
            prefix = f"{self._library_of[part] + 1}/" if len(self._libraries) > 1 else ""
            places = np.flatnonzero(ranking.parts == part)
            places = places[np.argsort(ranking.numbers[places])]
            contents = self._parts[part].content.passages(ranking.numbers[places])
            for place, score, content in zip(places.tolist(), ranking.scores[places].tolist(), contents, strict=True):
                text, name, source = content
                found[place] = Passage(id=prefix + name, text=text, source=source, score=score)
        return [found[place] for place in range(len(found))]


@dataclass(frozen=True)
class _InMemory:
    """Passages at hand as the one file of a library."""

    passages: Sequence[Passage]
    name: str = ""
    stamp: str = ""

    def read(self) -> Iterator[Passage]:
        yield from self.passages

    def notes(self) -> Any:
        return None
