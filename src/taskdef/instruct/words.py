"""Words of English text as retrieval and the procedural instructor compare them: lower-case, stemmed, no stop words."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORD = re.compile(r"[^\W\d_]{2,}")


@lru_cache(maxsize=1)
def stop_words() -> frozenset[str]:
    """English words that carry no topic: bm25s's longer list, and the number words, which stand in any text."""
    from bm25s.stopwords import STOPWORDS_EN_PLUS  # here: bm25s takes a third of a second to import

    return frozenset((*STOPWORDS_EN_PLUS, *_NUMBER_WORDS))


@lru_cache(maxsize=1)
def stemmer() -> Any:
    """The Snowball stemmer for English."""
    import Stemmer

    return Stemmer.Stemmer("english")


def content_words(text: str) -> list[str]:
    """Lower-case words of two letters or more that are no stop words, in order of first appearance, each once."""
    stopped = stop_words()
    return list(dict.fromkeys(word for word in _WORD.findall(text.lower()) if word not in stopped))


def stems(text: str) -> list[str]:
    """The stems of ``content_words``, in order of first appearance, each once."""
    return list(dict.fromkeys(stemmer().stemWords(content_words(text))))
