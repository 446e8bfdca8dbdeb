"""From text to the terms that BM25 counts: words, lower-case, stop words out, stemmed.

A word is a run of letters, digits and the marks that belong to them, two to forty characters long; longer runs are
hashes and encoded data. Scripts written without spaces (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese) give
overlapping pairs of characters instead, in every language, so a mixed library needs no setting. Stemming is Snowball's.

Cutting texts into words runs over every byte of a library; stemming and stop words need each distinct word once. So
these are two steps: ``words`` for a text, ``terms`` for a vocabulary.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from taskdef.errors import ConfigError

SHORTEST_WORD = 2
LONGEST_WORD = 40
"""In characters."""

_UNSPACED = "\u0e00-\u0edf\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"  # noqa: E501
# vowel signs and points that are no letters to `re` but stand inside words: Hebrew, Arabic, the scripts of India
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]+")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_NO_WORD = re.compile(rf"[^\w{_MARKS}]+")
_SOFT_HYPHEN = "\u00ad"
_WORD_BYTES = bytes(c if c > 127 else ord(chr(c).lower()) if chr(c).isalnum() else 32 for c in range(256))
"""For ``bytes.translate``: ASCII letters lower-case, digits as they are, the rest of ASCII a space."""

_STOP_LISTS = {
    "danish": "DANISH",
    "dutch": "DUTCH",
    "french": "FRENCH",
    "german": "GERMAN",
    "italian": "ITALIAN",
    "norwegian": "NORWEGIAN",
    "portuguese": "PORTUGUESE",
    "russian": "RUSSIAN",
    "spanish": "SPANISH",
    "swedish": "SWEDISH",
    "turkish": "TURKISH",
}
"""Languages for which bm25s has a list of stop words, besides English."""

NO_LANGUAGE = "none"
"""Words as they stand: no stop words, no stemming."""


@dataclass(frozen=True)
class Analysis:
    """How texts become terms. Everything that decides it is here, so an index can keep it and later queries match."""

    language: str
    stop_words: frozenset[str]

    def to_json(self) -> dict[str, object]:
        return {"language": self.language, "stop_words": sorted(self.stop_words)}

    def terms(self, words: Sequence[bytes]) -> list[bytes | None]:
        """The term of each word; None for stop words and what is too short or too long to be a word."""
        texts = [word.decode("utf-8") for word in words]
        stems = texts if self.language == NO_LANGUAGE else _stemmer(self.language).stemWords(texts)
        return [stem.encode("utf-8") if self._counts(text) else None for text, stem in zip(texts, stems, strict=True)]

    def _counts(self, word: str) -> bool:
        if len(word) < SHORTEST_WORD:
            return _UNSPACED_RUN.fullmatch(word) is not None
        return len(word) <= LONGEST_WORD and word not in self.stop_words


def build_analysis(language: str = "english") -> Analysis:
    """The analysis for a language by its English name, or ``none``. Raises ConfigError for one that has no stemmer."""
    import Stemmer

    known = [*Stemmer.algorithms(), NO_LANGUAGE]
    if language not in known:
        raise ConfigError(
            f"retrieve.language={language}: no stemmer for it",
            next_step=f"use one of {', '.join(known)}; scripts without spaces (Chinese, Japanese, Korean, Thai) need "
            f"no stemmer: take {NO_LANGUAGE}",
        )
    if language == "english":
        from taskdef.instruct.words import stop_words

        return Analysis(language, stop_words())
    if language in _STOP_LISTS:
        import bm25s.stopwords

        return Analysis(language, frozenset(getattr(bm25s.stopwords, f"STOPWORDS_{_STOP_LISTS[language]}")))
    return Analysis(language, frozenset())


def words_of(text: bytes) -> list[bytes]:
    """The words of UTF-8 text, lower-case, in order; single characters and over-long runs are still among them."""
    return spaced_words(text).split()


def spaced_words(text: bytes) -> bytes:
    """The same with blanks between them, any number.

    Most text is ASCII, which needs no decoding, and in most other text only quotation marks and dashes are not.
    """
    if not text.isascii():
        unified = unicodedata.normalize("NFKC", text.decode("utf-8")).replace(_SOFT_HYPHEN, "")
        text = _BEYOND_ASCII.sub(_beyond_ascii, unified).encode("utf-8")
    return text.translate(_WORD_BYTES)


def _beyond_ascii(run: re.Match[str]) -> str:
    characters = run.group()
    return _spaced_short(characters) if len(characters) <= 4 else _spaced(characters)


def _spaced(characters: str) -> str:
    return _UNSPACED_RUN.sub(_pairs, _NO_WORD.sub(" ", characters.lower()))


_spaced_short = lru_cache(maxsize=2**14)(_spaced)
"""The few short runs of a language come again and again: an accented letter, a dash."""


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = (characters[i : i + 2] for i in range(max(1, len(characters) - 1)))
    return f" {' '.join(pairs)} "


def _stemmer(language: str) -> _Stemmer:
    import Stemmer

    stemmer: _Stemmer = Stemmer.Stemmer(language, 0)  # no cache: every word comes once, and its upkeep takes longer
    return stemmer


class _Stemmer(Protocol):
    """The part of PyStemmer that is used; the package ships no types."""

    def stemWords(self, words: list[str]) -> list[str]:  # noqa: N802  # PyStemmer's name
        ...
