"""Rankings merged by hand, documents used evenly, ids to documents."""

import pytest

from taskdef.retrieve.fusion import document_of, merge_rankings, spread_documents


def test_reciprocal_ranks_add_up() -> None:
    # a: 1/61 + 1/63 = .03227; b: 1/62 + 1/61 = .03252; c: 1/63; d: 1/62
    assert merge_rankings([(1, "abc"), (1, "bda")], 4) == ["b", "a", "d", "c"]


def test_a_ranking_weighs_as_much_as_it_is_given() -> None:
    # a: 1/61; b: 2/62
    assert merge_rankings([(1, "a"), (2, "xb")], 9) == ["x", "b", "a"]


def test_ties_stay_in_the_order_of_first_appearance_and_the_count_is_kept() -> None:
    assert merge_rankings([(1, "abc"), (1, "xyz")], 3) == ["a", "x", "b"]
    assert merge_rankings([], 3) == []


def test_a_documents_second_passage_gives_way_to_sixty_of_fresh_documents() -> None:
    # Places 0 and 1 are of one document: place 1 is worth 1/62/2 = 1/124, which fresh places 2 to 62 (1/63 to 1/123)
    # beat; place 63 is worth 1/124 too and comes later.
    documents = ["a", "a", *(f"b{place}" for place in range(2, 80))]
    order = spread_documents(documents)
    assert order[:62] == [0, *range(2, 63)]
    assert order[62:64] == [1, 63]
    assert sorted(order) == list(range(80))


def test_twenty_documents_that_hold_all_first_places_do_not_hold_all_samples() -> None:
    documents = [f"long{place % 20}" for place in range(500)] + [f"short{place}" for place in range(9_500)]
    first = [documents[place] for place in spread_documents(documents)[:500]]
    assert len(set(first)) >= 250
    assert max(first.count(f"long{number}") for number in range(20)) <= 13


def test_one_document_keeps_its_order() -> None:
    assert spread_documents(["a"] * 4) == [0, 1, 2, 3]
    assert spread_documents([]) == []


@pytest.mark.parametrize(
    ("passage", "document"),
    [
        ("books/rivers.md#12", "books/rivers.md"),
        ("2/manual.PDF#3", "2/manual.PDF"),
        ("a#b.txt#1", "a#b.txt"),
        ("facts.jsonl#7", "facts.jsonl#7"),
        ("facts.jsonl#7.2", "facts.jsonl#7"),
        ("org/data#19.1", "org/data#19"),
        ("7", "7"),
    ],
)
def test_documents_of_passages(passage: str, document: str) -> None:
    assert document_of(passage) == document
