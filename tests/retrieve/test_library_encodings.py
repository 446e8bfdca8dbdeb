"""Encodings are found from the bytes alone, and what is no text is told from what is."""

from pathlib import Path

import pytest

from taskdef.retrieve.encodings import decode_html, detect_encoding
from taskdef.retrieve.skips import FileSkipped, SkipReason

FRENCH = "Les rivières débordent à l'été, près de la forêt où l'on pêche."
POLISH = "Rzeki płyną do morza, a woda podnosi się wiosną. Źródło żyje."
RUSSIAN = "Реки текут к морю, и вода прибывает весной."
JAPANESE = "川は海に流れる。春には水位が上がる。"
CHINESE = "河流流向大海。春天水位上升。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Plain words.", "ascii"),
        (FRENCH, "utf-8"),
        (FRENCH, "utf-8-sig"),
        (FRENCH, "utf-16"),
        (FRENCH, "utf-32"),
        (FRENCH, "latin-1"),
        ("It\u2019s \u201cdone\u201d: café.", "cp1252"),
        (POLISH, "cp1250"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (CHINESE, "gb18030"),
    ],
)
def test_a_text_is_read_as_it_was_written(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    assert path.read_text(encoding=detect_encoding(path)) == text


def test_some_broken_bytes_do_not_make_utf8_something_else(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(FRENCH.encode() + b" \xff " + FRENCH.encode())
    assert detect_encoding(path) == "utf-8"


def test_bytes_beyond_ascii_far_into_a_file_decide_too(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"plain words. " * 200_000 + FRENCH.encode("latin-1"))
    assert path.read_text(encoding=detect_encoding(path)).endswith(FRENCH)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"GIF89a\x00\x01", "binary content (it holds NUL bytes)"),
        (b"\x01\x02\x03ab", "binary content (60% control characters)"),
    ],
)
def test_binary_content_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(FileSkipped) as refusal:
        detect_encoding(path)
    assert (refusal.value.reason, refusal.value.why) == (SkipReason.BINARY, why)


def test_html_is_read_by_what_it_declares_unless_it_is_utf8() -> None:
    greek = '<meta charset="iso-8859-7"><p>κυλούν</p>'
    assert decode_html(greek.encode("iso-8859-7")) == greek
    assert decode_html(greek.encode("utf-8")) == greek  # saved anew, the declaration left as it was
    unknown = f'<meta charset="zip"><p>{FRENCH}</p>'
    assert decode_html(unknown.encode("cp1252")) == unknown
