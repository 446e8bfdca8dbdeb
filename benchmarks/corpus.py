"""Passages of real text for the retrieval benchmark, cut from documentation that lies on the machine.

    python benchmarks/corpus.py FOLDER... --out passages.jsonl [--passages 1000000] [--words 150] [--stride 150]

Reads .txt, .rst, .md, .html and manual pages (also gzipped) below the folders, in an order shuffled with a fixed seed
so that the first 10,000 passages are a sample of the whole. Windows of ``--words`` words start every ``--stride``
words: a smaller stride gives more passages from the same text, which then overlap. A window whose text occurred before
is left out. On Debian these packages hold enough: `apt-get download doc-rfc-std-proposed doc-rfc-informational
doc-rfc-others linux-doc-6.1 erlang-doc openjdk-17-doc python-pandas-doc python-scipy-doc cppreference-doc-en-html
manpages manpages-dev`, each unpacked by `dpkg-deb -x PACKAGE.deb FOLDER`.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import random
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TEXT = {".txt", ".rst", ".md"}
PAGES = {".html", ".htm", ".xhtml"}
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)
_MANUAL = re.compile(r"^[.'].*?(\s|$)|\\f.|\\[-&|^ ]|^\.\\\".*$", re.MULTILINE)
_LETTERS = re.compile(r"[^\W\d_]{2}")


def plain_text(path: Path) -> str | None:
    """The file's text without markup; None for what is no documentation."""
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    manual = "man" in path.parts and suffix[1:2].isdigit()
    if suffix not in TEXT | PAGES and not manual:
        return None
    raw = path.read_bytes()
    if path.name.endswith(".gz"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error):
            return None
    text = raw.decode("utf-8", errors="replace")
    if suffix in PAGES:
        return html.unescape(_MARKUP.sub(" ", text))
    return _MANUAL.sub("", text) if manual else text


def windows(words: list[str], size: int, stride: int) -> Iterator[str]:
    """Runs of ``size`` words; a shorter end is kept from half the size on. Tables of numbers are left out."""
    for start in range(0, len(words), stride):
        window = words[start : start + size]
        if len(window) >= size // 2:
            text = " ".join(window)
            if len(_LETTERS.findall(text)) >= size // 2:
                yield text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=150)
    parser.add_argument("--stride", type=int, default=150)
    options = parser.parse_args()
    files = sorted(file for folder in options.folders for file in folder.rglob("*") if file.is_file())
    random.Random(0).shuffle(files)
    seen: set[int] = set()
    counts: Counter[str] = Counter()
    with options.out.open("w", encoding="utf-8") as out:
        for file in files:
            text = plain_text(file)
            if text is None:
                counts["files of other kinds"] += 1
                continue
            counts["files"] += 1
            for passage in windows(text.split(), options.words, options.stride):
                key = hash(passage)
                if key in seen:
                    counts["windows that occurred before"] += 1
                    continue
                seen.add(key)
                out.write(json.dumps({"text": passage}, ensure_ascii=False) + "\n")
                counts["passages"] += 1
                counts["words"] += passage.count(" ") + 1
                if counts["passages"] == options.passages:
                    break
            if counts["passages"] == options.passages:
                break
    print("; ".join(f"{count:,} {what}" for what, count in counts.items()))
    if counts["passages"] < options.passages:
        sys.exit(f"only {counts['passages']:,} of {options.passages:,}: name more folders or a smaller --stride")


if __name__ == "__main__":
    main()
