"""Steps rejoin to the exact text and end where tokens end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from taskdef.errors import BaseModelError
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.train.steps import LINES, first_step_after, split_steps

END = "<end>"


def decode_words(tokens: list[str]) -> Callable[[list[int]], str]:
    """The tokens are these strings, by number; ``<end>`` is a special token, left out of texts."""
    return lambda ids: "".join("" if tokens[number] == END else tokens[number] for number in ids)


def texts(tokens: list[str], gap: re.Pattern[str] | None = None, most: int = 32) -> list[str]:
    given = {} if gap is None else {"gap": gap}
    steps = split_steps(range(len(tokens)), decode_words(tokens), most=most, **given)
    assert [step.start for step in steps] == [0, *(step.end for step in steps[:-1])]
    assert steps[-1].end == len(tokens)
    assert "".join(step.text for step in steps) == "".join(tokens).replace(END, "")
    return [step.text for step in steps]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # line breaks stay with what they end; a blank is the next token's
        (["4 + 5 = 9", "\n", "9 * 2 = 18", END], ["4 + 5 = 9\n", "9 * 2 = 18"]),
        (["He", " has", " 4", ".", " Then", " 5", "."], ["He has 4.", " Then 5."]),
        (["Is it 4?", " Yes!", " So 4"], ["Is it 4?", " Yes!", " So 4"]),
        # a token over the whole gap: the cut is at its end
        (["4", ".\nSo", " 5"], ["4.\nSo", " 5"]),
        (["4", ".\n\n", "5"], ["4.\n\n", "5"]),
        (["4", "\n", "\n", "\n", "5"], ["4\n\n\n", "5"]),
        # nothing that is blank is a step
        (["\n", "\n", "4", "\n", "5", "\n", "\n", END], ["\n\n4\n", "5\n\n"]),
        (["4"], ["4"]),
        # neither numbers, nor formulas, nor the numbers of a list are cut
        (["It is ", "3.5", " in", " all."], ["It is 3.5 in all."]),
        (["1.", " Add", ".", " Then", "\n", "2.", " Take"], ["1. Add.", " Then\n", "2. Take"]),
        (["So $a", ".", " b", "$", ".", " Then"], ["So $a. b$.", " Then"]),
        (["\\[", "a", "\n", "b", "\\]", "\n", "c"], ["\\[a\nb\\]\n", "c"]),
        (["\\begin{align}", "a", "\n", "\\end{align}", "\n", "c"], ["\\begin{align}a\n\\end{align}\n", "c"]),
        # two prices are no formula
        (["He pays $5", ".", " She pays $6", "."], ["He pays $5.", " She pays $6."]),
    ],
)
def test_steps_by_sentence(tokens: list[str], expected: list[str]) -> None:
    assert texts(tokens) == expected


def test_other_gaps_and_the_most_steps() -> None:
    assert texts(["4", ".", " 5", "\n", "6"], LINES) == ["4. 5\n", "6"]
    # an empty match: after each comma
    assert texts(["1", ",", "2", ",", "3", END], re.compile(r"(?<=,)")) == ["1,", "2,", "3"]
    # the last step takes what is left
    assert texts(["1", "\n", "2", "\n", "3", "\n", "4"], LINES, most=3) == ["1\n", "2\n", "3\n4"]
    assert texts(["1", "\n", "2", "\n", "3", "\n", "4"], LINES, most=1) == ["1\n2\n3\n4"]


@pytest.mark.parametrize("tokens", [[], [END], ["\n", " ", END]])
def test_a_response_without_text_has_no_steps(tokens: list[str]) -> None:
    assert split_steps(range(len(tokens)), decode_words(tokens)) == []


def test_the_steps_of_a_prefix_are_the_first_steps_of_the_whole() -> None:
    tokens = ["A", ".", " B", "\n", "$c", "$", ".", " D", "\n", "E"]
    whole = split_steps(range(len(tokens)), decode_words(tokens))
    for number, step in enumerate(whole):
        assert split_steps(range(step.end), decode_words(tokens)) == whole[: number + 1]


def test_the_next_step_after_a_prefix() -> None:
    steps = split_steps(range(5), decode_words(["1", "\n", "2", "\n", "3"]))
    assert [first_step_after(steps, place).end for place in range(5)] == [2, 2, 4, 4, 5]
    with pytest.raises(ValueError, match="no token after its first 5"):
        first_step_after(steps, 5)


def test_a_cut_is_never_inside_a_character(tiny_llama: Path, load_tiny: Callable[..., TransformersPolicy]) -> None:
    encoder = load_tiny(tiny_llama).encoder  # a token a byte
    text = "Fünf 🙂. Dann 6 €\nAlso 7"
    ids = encoder.completion_ids(text)
    steps = split_steps(ids, encoder.decode)
    # the blank is a token of its own, and the cut is the last boundary in the gap
    assert [step.text for step in steps] == ["Fünf 🙂. ", "Dann 6 €\n", "Also 7"]
    assert [token for step in steps for token in ids[step.start : step.end]] == ids
    # a gap in the middle of the bytes of a sign: the cut moves to the end of the sign
    moved = split_steps(ids, encoder.decode, gap=re.compile(r"(?<=n)f (?=🙂)|(?<=🙂)(?=\.)"))
    assert [step.text for step in moved] == ["Fünf ", "🙂", ". Dann 6 €\nAlso 7"]
    emoji = encoder.completion_ids("🙂🙂")
    assert [step.text for step in split_steps(emoji, encoder.decode, gap=re.compile("(?<=🙂)(?=🙂)"))] == ["🙂", "🙂"]


def test_a_tokenizer_whose_texts_do_not_rejoin_is_refused() -> None:
    def tidy(ids: list[int]) -> str:
        return "".join(["4", "?", "\n", "5"][number] for number in ids).replace("?\n", "!\n")

    with pytest.raises(BaseModelError) as refusal:
        split_steps(range(4), tidy, gap=re.compile(r"(?<=!)"))
    assert str(refusal.value) == (
        "the first 2 of a response's 4 tokens read '4?' at their end, where the response reads '4!': this "
        "tokenizer's texts cannot be cut into steps\n  next: --set train.method=dpo, which needs no steps"
    )
