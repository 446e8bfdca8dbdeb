"""Lists of texts and of objects out of what a model wrote."""

import pytest

from taskdef.instruct.lists import read_items, read_lists, read_objects


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('{"items": ["a b", "c", "a b", "...", ""]}', ["a b", "c"]),
        ('Here they are:\n```json\n["a", "b"]\n```', ["a", "b"]),
        ('<think>maybe {"items": ["x"]}</think>{"items": ["a"]}', ["a"]),
        ('{"items": ["say "no"", "b"', ['say "no"', "b"]),
        ("Sure!\n1. one two\n   and more\n2) three\n- four", ["one two and more", "three", "four"]),
        ("1. one\n2. one", ["one"]),
        ('{"items": ["*", "a", "***"]}', ["a"]),  # a small model's idea of a list
        ("I'm sorry, I can't.", []),
        ("no list at all", []),
        ('{"items": []}', []),
        ("", []),
    ],
)
def test_items(text: str, items: list[str]) -> None:
    assert read_items(text) == items


@pytest.mark.parametrize("text", ['{"items": ["a", "b c', "1. a\n2. b c", '{"items": ["a"]} and {"items": ["b'])
def test_the_token_limit_costs_the_last_item_where_the_list_has_no_end(text: str) -> None:
    assert read_items(text, cut=True) == ["a"]


def test_objects_are_found_wherever_they_stand() -> None:
    text = '{"questions": [{"question": "x?", "concepts": ["a"]}, {"question": ""}, {"question": "y?"}]}'
    assert read_objects(text, "question") == [{"question": "x?", "concepts": ["a"]}, {"question": "y?"}]
    assert read_objects('[{"question": "x?"}, {"question": "y', "question", cut=True) == [{"question": "x?"}]
    assert read_objects("1. x?\n2. y?", "question") == [{"question": "x?"}, {"question": "y?"}]
    assert read_objects("I cannot.", "question") == []


def test_lists_by_name() -> None:
    names = ("topics", "concepts")
    assert read_lists('{"topics": ["T", "T"], "concepts": "C"}', names) == {"topics": ("T",), "concepts": ("C",)}
    assert read_lists('{"topics": ["T"]}', names) == {"topics": ("T",), "concepts": ()}
    assert read_lists('["T"]', names) is None
    assert read_lists("Topics: T", names) is None
