"""How inputs are compared: tokens, normal form, word n-grams, and the numbers that make a problem this one."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

DUPLICATE_GRAM = 3
OVERLAP_GRAM = 8

# A number, a word (hyphens and apostrophes inside belong to it), or a sign. Sentence punctuation is no token.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['\u2019-][^\W\d_]+)*|[^\w\s.,;:?\"'\u2018\u2019\u201c\u201d`]|_")
_BRACKETS = frozenset("()[]{}$\\_")


@dataclass(frozen=True)
class Grams:
    """All n-grams of one input, as hashes: those that hold a number, and those without."""

    worded: frozenset[int]
    """N-grams without a number: only these can be common wording."""
    exact: frozenset[int]
    """N-grams that hold a number."""


@dataclass(frozen=True)
class Comparable:
    """An input, taken apart for comparison."""

    normal: str
    """Equal for inputs that differ in case, spacing, sentence punctuation or Unicode form only."""
    numbers: tuple[str, ...]
    """Numbers and operator signs in order: inputs that differ here are different problems, however alike in words."""
    short: Grams
    """3-grams, for near duplicates."""
    long: Grams
    """8-grams, for overlap with the test set."""


def take_apart(text: str) -> Comparable:
    """Tokens, normal form and n-grams of an input. An input shorter than an n-gram has none of that length."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    numbers = tuple(token for token in tokens if not token[0].isalpha() and token not in _BRACKETS)
    return Comparable(" ".join(tokens), numbers, _grams(tokens, DUPLICATE_GRAM), _grams(tokens, OVERLAP_GRAM))


def _grams(tokens: list[str], length: int) -> Grams:
    worded: set[int] = set()
    exact: set[int] = set()
    numeric = [token[0].isdigit() for token in tokens]
    for start in range(len(tokens) - length + 1):
        gram = hash(" ".join(tokens[start : start + length]))
        (exact if any(numeric[start : start + length]) else worded).add(gram)
    return Grams(frozenset(worded), frozenset(exact))
