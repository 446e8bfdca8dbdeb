"""Cutting: where passages end, what they share, how words are counted."""

import pytest

from taskdef.retrieve.passages import Block, count_words, cut_passages
from taskdef.retrieve.plain_text import BLOCK_CHARACTERS, text_blocks


def cut(text: str, words: int, overlap: int = 0) -> list[str]:
    return [piece.text for piece in cut_passages(text_blocks(text), words, overlap)]


def test_paragraphs_are_joined_up_to_the_limit_and_cut_at_sentences() -> None:
    assert cut("a b\n\nc d\n\ne f g\n\nh", words=4) == ["a b\n\nc d", "e f g\n\nh"]
    assert cut("One two three. Four five. Six seven eight nine ten.", words=4) == [
        "One two three.",
        "Four five.",
        "Six seven eight nine",
        "ten.",
    ]
    assert cut(" \n\n ", words=4) == []


def test_a_short_rest_joins_the_passage_before_it() -> None:
    # Of 8 words a quarter is 2: one word is left over and joins, two stay alone.
    assert cut("a b c d. e f g h. i.", words=8) == ["a b c d. e f g h. i."]
    assert cut("a b c d. e f g h. i j.", words=8) == ["a b c d. e f g h.", "i j."]


def test_an_overlap_is_whole_sentences_of_the_passage_before() -> None:
    text = "One two. Three four. Five six. Seven eight. Nine ten."
    assert cut(text, words=6, overlap=3) == [
        "One two. Three four. Five six.",
        "Five six. Seven eight. Nine ten.",
    ]
    assert cut(text, words=6, overlap=1) == ["One two. Three four. Five six.", "Seven eight. Nine ten."]


def test_an_overlap_does_not_reach_over_a_heading() -> None:
    assert cut("a b. c d.\n\n# Next\n\ne f. g h.", words=6, overlap=2) == ["a b. c d.", "# Next\n\ne f. g h."]


def test_headings_begin_a_passage_and_stay_with_what_follows() -> None:
    text = "# Title\n## Part\ntext here\n\nmore\n# Other\nwords of it\n```\n# a comment in code\n```\n"
    assert cut(text, words=50) == [
        "# Title\n\n## Part\n\ntext here\n\nmore",
        "# Other\n\nwords of it\n```\n# a comment in code\n```",
    ]
    assert cut("# A heading\n" + "word " * 10, words=10) == ["# A heading\n\n" + " ".join(["word"] * 10)]


def test_places_are_the_lines_where_passages_begin() -> None:
    pieces = list(cut_passages(text_blocks("a b\n\nc d\ne f\n\n\n\n# G\nh"), 4))
    assert [(piece.text, piece.place) for piece in pieces] == [("a b", "1"), ("c d\ne f", "3"), ("# G\n\nh", "8")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two  three\n", 3),
        ("", 0),
        ("河流流向大海。", 7),  # six characters that count one each, and the mark
        ("a 河 b", 3),
        ("x" * 20, 1),  # a long word is a word
        ("x" * 100, 6),  # an unbroken run counts one more for every 20 characters
    ],
)
def test_words_are_counted_in_every_script(text: str, words: int) -> None:
    assert count_words(text) == words


def test_chinese_is_cut_at_its_own_marks() -> None:
    assert cut("一二三。四五六。七八九。", words=8) == ["一二三。 四五六。", "七八九。"]
    assert cut("一二三四五六七八九十", words=4) == ["一二三四", "五六七八", "九十"]


def test_a_text_without_any_end_is_cut_all_the_same() -> None:
    pieces = cut("x" * 200_000, words=200)
    assert "".join(pieces) == "x" * 200_000
    assert max(map(len, pieces)) <= 200 * 20
    words = cut("ab " * 100_000, words=200)
    assert " ".join(words).split() == ["ab"] * 100_000
    assert max(len(piece.split()) for piece in words) < 250  # a rest of less than a quarter joins
    assert len(words) <= 100_000 / 200 + 300_000 / BLOCK_CHARACTERS + 1  # one short passage a block at most


def test_a_long_paragraph_comes_in_blocks_cut_after_a_sentence() -> None:
    sentence = "Water flows down to the sea. "
    blocks = list(text_blocks(sentence * 10_000))
    assert len(blocks) > 1
    assert all(block.text.endswith("sea.") and len(block.text) < 2 * BLOCK_CHARACTERS for block in blocks)
    assert sum(block.text.count("sea.") for block in blocks) == 10_000


def test_control_characters_become_blanks() -> None:
    assert [block.text for block in text_blocks("a\x1b[31mb\x07\tc")] == ["a [31mb \tc"]


def test_blocks_without_words_give_nothing() -> None:
    assert list(cut_passages([Block("  ", "1"), Block("", "2")], 5)) == []
