"""ROUGE-L against a pool of texts (Lin 2004), as Self-Instruct filters by it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rapidfuzz import process
from rapidfuzz.distance import Indel

_TOKEN = re.compile(r"[^\W_]+")
_SURROGATES = 0xD800
_ROUNDING, _EQUAL = 1e-3, 1e-9


class RougePool:
    """Texts, and how similar the most similar of them is to a new one.

    Similarity is the F-measure of ROUGE-L, 2 LCS / (m + n) for texts of m and n tokens whose longest common
    subsequence has LCS tokens: what rapidfuzz calls the normalized Indel similarity. Tokens are runs of letters and
    digits, in lower case and unstemmed. A script without spaces gives few long tokens, and little similarity.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts: list[str] = []
        self._encoded: list[str] = []
        self._letters: dict[str, str] = {}
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Take a text in."""
        self.texts.append(text)
        self._encoded.append(self._encode(text))

    def most_similar(self, text: str, at_least: float) -> tuple[float, str] | None:
        """ROUGE-L with the most similar text, and that text; None where it is less than ``at_least``."""
        encoded = self._encode(text)
        if not encoded:  # nothing in common with anything, also not with another text without tokens
            return None
        # rapidfuzz's own cutoff may miss a similarity that equals it: 0.8 of 4 in 10 tokens, say
        margin = max(0.0, at_least - _ROUNDING)
        found = process.extractOne(encoded, self._encoded, scorer=Indel.normalized_similarity, score_cutoff=margin)
        return None if found is None or found[1] < at_least - _EQUAL else (found[1], self.texts[found[2]])

    def _encode(self, text: str) -> str:
        """Each token as one letter of an alphabet of its own, so that sequences of tokens compare as strings do."""
        return "".join(self._letter(token) for token in _TOKEN.findall(text.casefold()))

    def _letter(self, token: str) -> str:
        if token not in self._letters:
            code = len(self._letters)
            self._letters[token] = chr(code if code < _SURROGATES else code + 0x800)
        return self._letters[token]
