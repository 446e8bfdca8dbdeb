"""The concept graph of SynthLLM: edges, walks, and the documents closest to a combination."""

from collections import Counter

import pytest

from taskdef.synthesize.concept_graph import ConceptGraph, Concepts

DOCUMENTS = [
    Concepts(("Algebra", "Geometry"), ("slope", "line")),
    Concepts(("algebra ",), ("slope", "root", "line")),
    Concepts(("Poetry",), ()),
    Concepts((), ()),
]


def test_edges_count_the_documents_where_two_concepts_meet() -> None:
    graph = ConceptGraph(DOCUMENTS)
    assert graph.topics == ["algebra", "geometry", "poetry"]
    assert graph.topic_edges == {"algebra": Counter(geometry=1), "geometry": Counter(algebra=1)}
    assert graph.concept_edges["slope"] == Counter(line=2, root=1)
    assert graph.topic_concept_edges["algebra"] == Counter(slope=2, line=2, root=1)
    assert "poetry" not in graph.topic_concept_edges


def test_a_concept_named_twice_in_a_document_counts_once() -> None:
    graph = ConceptGraph([Concepts(("t", "T "), ("a", "b", "A"))])
    assert graph.concept_edges == {"a": Counter(b=1), "b": Counter(a=1)}
    assert graph.topic_edges == {}


def test_each_epoch_starts_from_every_topic_once_in_an_order_of_its_own() -> None:
    graph = ConceptGraph([Concepts((f"topic {number}",), ()) for number in range(8)])
    epochs = [[graph.combination(8 * epoch + place, seed=1).topics for place in range(8)] for epoch in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [[(f"topic {number}",) for number in range(8)]] * 2
    assert epochs[0] != epochs[1]


def test_walks_take_one_or_two_topic_steps_and_up_to_four_concept_steps() -> None:
    ring = [Concepts((f"t{n}", f"t{n + 1}"), tuple(f"c{n}-{m}" for m in range(30))) for n in range(50)]
    graph = ConceptGraph(ring)
    combinations = [graph.combination(number, seed=0) for number in range(300)]
    assert {len(found.topics) for found in combinations} == {2, 3}  # a walk back is the same topic: t0, t1, t0
    assert {len(found.concepts) for found in combinations} <= {2, 3, 4, 5}
    assert {4, 5} <= {len(found.concepts) for found in combinations}
    assert combinations[7] == graph.combination(7, seed=0) != graph.combination(7, seed=1)


def test_a_step_is_drawn_in_proportion_to_the_frequency() -> None:
    often = [Concepts(("start",), ("often",))] * 3 + [Concepts(("start",), ("seldom",))]
    graph = ConceptGraph(often)
    firsts = Counter(graph.combination(number, seed=0).concepts[0] for number in range(2000))
    # 3 of 4: 1,500 of 2,000, deviation 19.4; within five deviations
    assert 1403 <= firsts["often"] <= 1597


def test_dead_ends_end_a_walk() -> None:
    graph = ConceptGraph([Concepts(("Alone",), ())])
    assert graph.combination(0, seed=0) == Concepts(("Alone",), ())
    with pytest.raises(ValueError, match="no document has a topic"):
        ConceptGraph([Concepts((), ("a",))]).combination(0, seed=0)


def test_the_closest_documents_share_the_largest_part_of_all_concepts() -> None:
    graph = ConceptGraph(DOCUMENTS)
    # {algebra, slope, root}: document 1 shares 3 of 4, document 0 shares 2 of 5
    assert graph.closest(Concepts(("Algebra",), ("Slope", "root"))) == [1, 0]
    assert graph.closest(Concepts(("Poetry",), ())) == [2, 0]  # nothing in common with the others: in their order
    assert graph.closest(Concepts(("x",), ()), count=9) == [0, 1, 2, 3]
