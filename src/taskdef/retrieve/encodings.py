"""Which encoding a file's text is in, found in one pass and flat memory."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from taskdef.retrieve.skips import FileSkipped, SkipReason

SAMPLE_BYTES = 1 << 16
"""How much around the bytes that are not UTF-8 is shown to the detection."""

_CHUNK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Where a text reads equally well in several of them, the earlier is the likelier.
_LEGACY = (
    *("cp1252", "cp1250", "iso8859_2", "cp1254", "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256"),
    *("gb18030", "big5", "cp932", "euc_jp", "cp949"),
)
_CONTROLS = bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27}) + b"\x7f"
_MOST_CONTROLS = 0.02
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_BROKEN = re.compile("[\udc80-\udcff]")


def detect_encoding(path: Path) -> str:
    """The encoding to open a text file with; files that break it in places are read with errors="replace".

    A byte order mark decides. Else UTF-8, unless bytes that break it outnumber the characters it gives beyond ASCII;
    then charset-normalizer's finding among the legacy encodings, from a sample around those bytes. Raises
    FileSkipped for binary content and where nothing fits, OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_CHUNK)
        if mark := _by_mark(head):
            return mark
        _refuse_binary(head)
        file.seek(0)
        return _utf8_or_legacy(iter(lambda: file.read(_CHUNK), b""))


def decode_html(content: bytes) -> str:
    """The text of an HTML file: by its mark, as UTF-8 where it is that, as it declares itself, or as detected.

    Raises FileSkipped.
    """
    encoding = _by_mark(content)
    if encoding is None:
        _refuse_binary(content[:_CHUNK])
        encoding = _utf8_or_legacy(iter((content,)), _META_CHARSET.search(content[:4096]))
    return content.decode(encoding, "replace")


def _by_mark(head: bytes) -> str | None:
    return next((name for mark, name in _BOMS if head.startswith(mark)), None)


def _refuse_binary(head: bytes) -> None:
    if b"\0" in head:
        raise FileSkipped(SkipReason.BINARY, "binary content (it holds NUL bytes)")
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > len(head) * _MOST_CONTROLS:
        raise FileSkipped(SkipReason.BINARY, f"binary content ({controls / len(head):.0%} control characters)")


def _utf8_or_legacy(chunks: Iterator[bytes], declared: re.Match[bytes] | None = None) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    beyond_ascii = broken = 0
    sample = b""
    for chunk in chain(chunks, (b"",)):  # the empty chunk brings out a sequence that the end cuts off
        text = decoder.decode(chunk, final=not chunk)
        if text.isascii():
            continue
        first_wrong = _BROKEN.search(text)
        wrong = len(text) - len(_BROKEN.sub("", text)) if first_wrong else 0
        broken += wrong
        beyond_ascii += len(text) - len(text.encode("ascii", "ignore")) - wrong
        if first_wrong and len(sample) < SAMPLE_BYTES:
            start = max(0, first_wrong.start() - 2000)
            sample += text[start : start + SAMPLE_BYTES].encode("utf-8", "surrogateescape")
    if broken <= beyond_ascii:
        return "utf-8"
    if declared and (name := _known(declared[1])):
        return name
    return _legacy(sample[:SAMPLE_BYTES])


def _known(name: bytes) -> str | None:
    encoding = name.decode("ascii", "replace")
    try:
        b" ".decode(encoding)  # Python also calls base64 and the like codecs, and refuses them here
    except (LookupError, ValueError):
        return None
    return None if encoding.lower().startswith(("utf", "idna", "punycode")) else encoding


def _legacy(sample: bytes) -> str:
    from charset_normalizer import from_bytes  # only for those who need it

    found = from_bytes(sample, cp_isolation=list(_LEGACY), enable_fallback=False)
    ranked = sorted(
        found,
        key=lambda match: (round(match.chaos, 2), -round(match.coherence, 2), _LEGACY.index(match.encoding)),
    )
    if not ranked:
        raise FileSkipped(SkipReason.UNKNOWN_ENCODING, "not UTF-8, and no other encoding was detected")
    return ranked[0].encoding
