"""The process that documents are converted in: ``python -m taskdef.retrieve.document_worker``, by documents.py only.

Protocol, JSON lines: the first line in is the limits; a further line in is ``{"path", "kind", "output"}``, and a line
out says what came of it: ``{"notes": [[place, why], …]}`` once ``output`` holds the document's blocks as JSON lines,
or ``{"failure": reason, "why"}``. Memory is limited by the system (RLIMIT_AS), the text by RLIMIT_FSIZE, processor
time by a timer whose signal ends the process; the parent watches the clock. The converters meet foreign bytes here:
this process opens no connection, starts no program and writes no file but ``output``, which an audit hook refuses to
whatever code tries.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from taskdef.retrieve.encodings import decode_html
from taskdef.retrieve.html_text import html_blocks
from taskdef.retrieve.passages import Block
from taskdef.retrieve.plain_text import bounded_parts, tidy
from taskdef.retrieve.skips import FileSkipped, SkipReason

_OLE_HEADER = bytes.fromhex("d0cf11e0a1b11ae1")
"""Begins old Word files, and new ones under a password."""
_PDFIUM_PASSWORD = 4
_REFUSED_EVENTS = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "shutil.")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Notes = list[tuple[str, str]]
"""Parts of a document that could not be read: place, why."""


def pdf_blocks(path: Path, unpacked_bytes: int, notes: Notes) -> Iterator[Block]:
    """The text of every page, by PDFium. A page that cannot be read is noted."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code == _PDFIUM_PASSWORD:
            raise FileSkipped(SkipReason.ENCRYPTED, "needs a password") from None
        raise FileSkipped(SkipReason.BROKEN, f"no PDF that can be read: {error}") from None
    found = False
    for index in range(len(document)):
        place = f"page {index + 1}"
        try:
            page = document[index]
            text_page = page.get_textpage()
            text = text_page.get_text_bounded()
            text_page.close()
            page.close()
        except pypdfium2.PdfiumError as error:
            notes.append((place, str(error)))
            continue
        for paragraph in text.replace("\r\n", "\n").replace("\ufffe", "").split("\n\n"):
            if paragraph.strip():
                found = True
                yield Block(paragraph, place)
    if not found:
        raise FileSkipped(SkipReason.NO_TEXT, f"no text on {len(document)} pages (scanned pictures?)")


def docx_blocks(path: Path, unpacked_bytes: int, notes: Notes) -> Iterator[Block]:
    """The text of a Word document, by mammoth: insertions, tables and footnotes included, deletions and pictures not.

    What the archive says that it unpacks to is believed, since no more than that is unpacked.
    """
    import mammoth

    with path.open("rb") as file:
        if file.read(8) == _OLE_HEADER:
            raise FileSkipped(SkipReason.ENCRYPTED, "needs a password, or is an old .doc by another name")
        try:
            with zipfile.ZipFile(file) as archive:
                parts = [part for part in archive.infolist() if not part.filename.startswith("word/media/")]
                unpacked = sum(part.file_size for part in parts)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise FileSkipped(SkipReason.BROKEN, f"no Word document that can be read: {error}") from None
        if unpacked > unpacked_bytes:
            why = f"unpacks to {unpacked:,} bytes, more than {unpacked_bytes:,}"
            raise FileSkipped(SkipReason.TOO_LARGE, why)
        without_pictures = mammoth.images.img_element(lambda image: {})
        html = mammoth.convert_to_html(file, convert_image=without_pictures).value
    blocks = html_blocks(html)
    if not blocks:
        raise FileSkipped(SkipReason.NO_TEXT, "holds no text")
    for number, block in enumerate(blocks, start=1):
        yield Block(block.text, f"paragraph {number}", block.heading)


def html_file_blocks(path: Path, unpacked_bytes: int, notes: Notes) -> Iterator[Block]:
    """The text of an HTML file."""
    content = path.read_bytes()
    if not content.strip():
        raise FileSkipped(SkipReason.EMPTY, "empty")
    blocks = html_blocks(decode_html(content))
    if not blocks:
        raise FileSkipped(SkipReason.NO_TEXT, "holds no text")
    yield from blocks


_CONVERTERS: dict[str, Callable[[Path, int, Notes], Iterator[Block]]] = {
    "pdf": pdf_blocks,
    "docx": docx_blocks,
    "html": html_file_blocks,
}


def convert(request: dict[str, Any], unpacked_bytes: int) -> dict[str, Any]:
    """Convert one document and say what came of it; whatever a converter raises counts as a broken document."""
    notes: Notes = []
    try:
        with open(request["output"], "w", encoding="ascii") as output:
            _write(_CONVERTERS[request["kind"]](Path(request["path"]), unpacked_bytes, notes), output)
    except FileSkipped as refusal:
        return {"failure": refusal.reason, "why": refusal.why}
    except MemoryError:
        return {"failure": SkipReason.TOO_MUCH_MEMORY, "why": "its conversion needs more memory than is allowed"}
    except OSError as error:
        if Path(request["output"]).stat().st_size >= resource.getrlimit(resource.RLIMIT_FSIZE)[0]:
            return {"failure": SkipReason.TOO_MUCH_MEMORY, "why": "holds more text than is allowed"}
        return {"failure": SkipReason.UNREADABLE, "why": f"cannot be read: {error.strerror or error}"}
    except Exception as error:  # converters raise whatever a damaged document leads them to
        text = " ".join(str(error).split())[:200]
        return {"failure": SkipReason.BROKEN, "why": f"cannot be converted: {type(error).__name__}: {text}"}
    return {"notes": notes}


def _write(blocks: Iterable[Block], output: Any) -> None:
    for block in blocks:
        for part in bounded_parts(tidy(block.text).strip()):
            output.write(json.dumps([part, block.place, block.heading]) + "\n")


def _limit(memory_bytes: int, text_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (text_bytes, text_bytes))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond it is an OSError instead
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _refuse_actions(allowed: set[str]) -> None:
    """From here on no connection, no program, no file opened for writing but those in ``allowed``."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_REFUSED_EVENTS):
            raise PermissionError(f"a document's conversion tried {event}")
        if event == "open" and arguments[2] & _WRITING and str(arguments[0]) not in allowed:
            raise PermissionError(f"a document's conversion tried to write {arguments[0]}")

    sys.addaudithook(refuse)


def main() -> None:
    """Serve until the input ends."""
    requests, responses = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what a converter prints must not get between the responses
        os.dup2(nothing, stream)
    with open(requests, encoding="utf-8") as incoming, open(responses, "w", encoding="utf-8") as outgoing:
        limits = json.loads(incoming.readline())
        if limits["converters"]:
            for name in ("mammoth", "pypdfium2"):
                importlib.import_module(name)  # before the limits and the hook, which loading may not meet
        allowed: set[str] = set()
        _refuse_actions(allowed)
        _limit(limits["memory_bytes"], limits["text_bytes"])
        outgoing.write("ready\n")
        outgoing.flush()
        for line in incoming:
            request = json.loads(line)
            allowed.clear()
            allowed.add(request["output"])
            # Ends this process after so much processor time; after more by the clock the parent does, or, where that is
            # gone, the alarm.
            signal.setitimer(signal.ITIMER_PROF, limits["seconds"])
            signal.setitimer(signal.ITIMER_REAL, limits["seconds"] * 10 + 10)
            response = convert(request, limits["unpacked_bytes"])
            for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
                signal.setitimer(timer, 0)
            outgoing.write(json.dumps(response) + "\n")
            outgoing.flush()


if __name__ == "__main__":
    main()
