"""ROUGE-L, worked out by hand."""

import pytest

from taskdef.synthesize.rouge import RougePool


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("police killed the gunman", "police kill the gunman", 2 * 3 / 8),  # police, the, gunman
        ("police killed the gunman", "the gunman kill police", 2 * 2 / 8),  # the, gunman: in order
        ("a b c d e f g", "a b c d e f g h i", 2 * 7 / 16),
        ("The CAT, sat.", "the cat sat", 1.0),
        ("What is 12 + 5?", "What is 12 - 5?", 1.0),  # signs are no tokens
        ("one two", "three four", 0.0),
        ("naïve Straße", "naïve strasse", 1.0),  # case folded, not only lowered
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(one: str, other: str, similarity: float) -> None:
    found = RougePool([one]).most_similar(other, at_least=1e-6)
    assert (found[0] if found else 0.0) == pytest.approx(similarity)


def test_the_most_similar_of_a_pool_is_found_from_the_limit_on() -> None:
    pool = RougePool(["a b c d", "a b x y"])
    pool.add("a b c z")
    assert pool.most_similar("a b c e f", at_least=0.6) == (pytest.approx(2 * 3 / 9), "a b c d")
    assert pool.most_similar("a b c e f", at_least=0.67) is None
    assert pool.most_similar("a b c d e f", at_least=0.8) == (pytest.approx(2 * 4 / 10), "a b c d")  # 0.8 is not below


def test_a_text_without_tokens_is_like_nothing() -> None:
    assert RougePool(["", "?!"]).most_similar("...", at_least=0.1) is None
    assert RougePool([]).most_similar("a", at_least=0.1) is None


def test_thousands_of_different_tokens_stay_different() -> None:
    words = [f"w{number}" for number in range(60_000)]  # past the surrogates of Unicode
    pool = RougePool([" ".join(words)])
    assert pool.most_similar(words[59_999], at_least=1e-6) == (pytest.approx(2 / 60_001), " ".join(words))
    assert pool.most_similar("new", at_least=1e-6) is None
