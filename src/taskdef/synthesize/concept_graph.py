"""Concepts of documents as a graph, and combinations of them by random walks (arXiv 2503.19551, section 4.2).

Nodes are topics and key concepts, equal ones of several documents being one. Two are joined by an edge of weight
w(u, v) = log(freq(u, v) + epsilon) if they occur in the same document, freq(u, v) being the number of documents where
they do. A walk goes from u to v with probability exp(w(u, v)) over its sum for all neighbours of u, which is freq(u, v)
over its sum: edges have a frequency of 1 at least, so that epsilon can be left out.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product

_TOPIC_STEPS = (1, 2)
_CONCEPT_STEPS = (3, 4)

Edges = Mapping[str, Counter[str]]


@dataclass(frozen=True)
class Concepts:
    """What a document is about, or a combination of such: topics, and key concepts."""

    topics: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.topics or self.concepts)


class ConceptGraph:
    """The graph of all documents. A concept keeps the spelling in which it came first."""

    def __init__(self, documents: Sequence[Concepts]) -> None:
        self._spelling: dict[str, str] = {}
        self._documents = [self._normal(document) for document in documents]
        self.topics = list(dict.fromkeys(topic for document in self._documents for topic in document.topics))
        self.topic_edges = _edges(permutations(document.topics, 2) for document in self._documents)
        self.concept_edges = _edges(permutations(document.concepts, 2) for document in self._documents)
        self.topic_concept_edges = _edges(product(document.topics, document.concepts) for document in self._documents)

    def combination(self, number: int, *, seed: int) -> Concepts:
        """The ``number``-th combination; ValueError where no document has a topic.

        Topics are gone through in random order, epoch after epoch. From one of them a walk of one or two steps over
        topics, then from the last one step to a key concept, then three or four steps over key concepts. A walk ends
        early at a node without neighbours.
        """
        if not self.topics:
            raise ValueError("no document has a topic")
        epoch, place = divmod(number, len(self.topics))
        order = random.Random(f"{seed}/topics/{epoch}").sample(self.topics, len(self.topics))
        rng = random.Random(f"{seed}/combination/{number}")
        topics = _walk(order[place], self.topic_edges, rng.choice(_TOPIC_STEPS), rng)
        first = _step(topics[-1], self.topic_concept_edges, rng)
        concepts = [] if first is None else _walk(first, self.concept_edges, rng.choice(_CONCEPT_STEPS), rng)
        return Concepts(self._spelt(topics), self._spelt(concepts))

    def closest(self, combination: Concepts, count: int = 2) -> list[int]:
        """The documents whose concepts are most like the combination's (Jaccard similarity), earlier ones first where
        they are equally so."""
        wanted = _all(self._normal(combination))
        similarity = [_jaccard(wanted, _all(document)) for document in self._documents]
        return sorted(range(len(similarity)), key=lambda place: -similarity[place])[:count]

    def _normal(self, given: Concepts) -> Concepts:
        return Concepts(tuple(map(self._key, given.topics)), tuple(map(self._key, given.concepts)))

    def _key(self, name: str) -> str:
        key = " ".join(name.casefold().split())
        self._spelling.setdefault(key, name)
        return key

    def _spelt(self, keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(self._spelling[key] for key in dict.fromkeys(keys))


def _edges(documents: Iterable[Iterable[tuple[str, str]]]) -> Edges:
    edges: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for pairs in documents:
        for one, other in dict.fromkeys(pairs):  # in order: what a walk draws follows from the seed
            if one != other:
                edges[one][other] += 1
    return dict(edges)


def _walk(start: str, edges: Edges, steps: int, rng: random.Random) -> list[str]:
    path = [start]
    for _ in range(steps):
        following = _step(path[-1], edges, rng)
        if following is None:
            break
        path.append(following)
    return path


def _step(node: str, edges: Edges, rng: random.Random) -> str | None:
    neighbours = edges.get(node)
    return rng.choices(list(neighbours), weights=list(neighbours.values()))[0] if neighbours else None


def _all(given: Concepts) -> frozenset[str]:
    return frozenset((*given.topics, *given.concepts))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0
