"""From text to terms: what a word is, what counts, what is stemmed, in which languages."""

import pytest

from taskdef.errors import ConfigError
from taskdef.retrieve.tokens import Analysis, build_analysis, spaced_words, words_of


def words(text: str) -> list[str]:
    return [word.decode() for word in words_of(text.encode())]


def terms(text: str, language: str = "english") -> list[str]:
    return [term.decode() for term in build_analysis(language).terms(words_of(text.encode())) if term is not None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Sum, of 2x+3!", ["the", "sum", "of", "2x", "3"]),
        ("snake_case isn't kebab-case", ["snake", "case", "isn", "t", "kebab", "case"]),
        ("“Naïve” — café, ÉCOLE…", ["naïve", "café", "école"]),
        ("cafe\u0301 and ﬁne \uff46\uff55\uff4c\uff4c co\u00adop", ["café", "and", "fine", "full", "coop"]),
        ("Straße Ωμέγα Привет", ["straße", "ωμέγα", "привет"]),
        ("東京都に行く。", ["東京", "京都", "都に", "に行", "行く"]),
        ("Hello中文字 한국어 말", ["hello", "中文", "文字", "한국", "국어", "말"]),
        ("ภาษาไทย", ["ภา", "าษ", "ษา", "าไ", "ไท", "ทย"]),
        ("भारत की राजधानी।", ["भारत", "की", "राजधानी"]),
        ("\x00a\tb\r\nc", ["a", "b", "c"]),
        ("", []),
        (" .,;— ", []),
    ],
)
def test_words_are_cut(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_the_ascii_path_and_the_general_one_agree() -> None:
    text = "".join(map(chr, range(128))) * 2
    assert words(text + " é")[:-1] == words(text)


def test_stop_words_short_and_over_long_words_are_no_terms() -> None:
    assert terms(f"the a x 7 {'y' * 41} {'z' * 40} of two numbers") == ["z" * 40, "number"]


def test_single_characters_count_in_scripts_without_spaces() -> None:
    assert terms("山 a") == ["山"]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("english", "adding added adds", ["add", "add", "add"]),
        ("german", "die Häuser und das Haus", ["haus", "haus"]),
        ("french", "les maisons de la maison", ["maison", "maison"]),
        ("finnish", "talossa talo", ["talo", "talo"]),
        ("none", "The adding of", ["the", "adding", "of"]),
    ],
)
def test_languages(language: str, text: str, expected: list[str]) -> None:
    assert terms(text, language) == expected


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        build_analysis("klingon")
    assert "language" in refusal.value.message
    assert "klingon" in refusal.value.message
    assert refusal.value.next_step is not None
    assert "english" in refusal.value.next_step
    assert "none" in refusal.value.next_step


def test_an_analysis_survives_being_written_down() -> None:
    written = build_analysis("english").to_json()
    stop_words = written["stop_words"]
    assert isinstance(stop_words, list)
    assert Analysis("english", frozenset(stop_words)).to_json() == written


def test_cleaned_text_has_no_white_space_but_blanks() -> None:
    assert set(spaced_words(bytes(range(128)))) - set(b"abcdefghijklmnopqrstuvwxyz0123456789") == {32}
