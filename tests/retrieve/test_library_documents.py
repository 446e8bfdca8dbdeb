"""Documents: what is read of them, and that none of them costs more than is stated or does anything."""

import importlib.util
import os
from pathlib import Path

import pytest
from library_samples import docx, docx_bomb, paragraph, pdf

from taskdef.records import PassageSource
from taskdef.retrieve import document_worker, documents
from taskdef.retrieve.documents import DocumentConverter, DocumentLimits
from taskdef.retrieve.html_text import html_blocks
from taskdef.retrieve.library import iter_passages
from taskdef.retrieve.skips import FileSkipped, SkipLog, SkipReason


def blocks(path: Path, limits: DocumentLimits | None = None) -> list[tuple[str, str]]:
    notes: list[tuple[str, str]] = []
    with DocumentConverter(limits) as converter:
        found = [(block.text, block.place) for block in converter.blocks(path, path.suffix[1:], notes)]
    assert notes == []
    return found


def refusal(path: Path, limits: DocumentLimits | None = None) -> tuple[SkipReason, str]:
    with pytest.raises(FileSkipped) as refused:
        blocks(path, limits)
    return refused.value.reason, refused.value.why


def test_pdf_pages_become_text(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("Rivers flow.", "Seas wait."))
    assert blocks(tmp_path / "a.pdf") == [("Rivers flow.", "page 1"), ("Seas wait.", "page 2")]


def test_word_gives_insertions_and_tables_and_no_deletions(tmp_path: Path) -> None:
    changed = (
        "<w:p><w:ins><w:r><w:t>Put in.</w:t></w:r></w:ins><w:del><w:r><w:delText>Gone.</w:delText></w:r></w:del></w:p>"
    )
    table = f"<w:tbl><w:tr><w:tc>{paragraph('cell')}</w:tc></w:tr></w:tbl>"
    docx(tmp_path / "a.docx", paragraph("Rivers flow.") + changed + table)
    assert [text for text, _ in blocks(tmp_path / "a.docx")] == ["Rivers flow.", "Put in.", "cell"]


def test_html_gives_what_a_reader_sees_and_no_script() -> None:
    html = """<html><head><title>Rivers</title><style>p {color: red}</style></head><body>
        <nav><ul><li>Home</ul></nav><h1>Rivers</h1>
        <p>Water <b>flows</b><img src="http://example.org/x.png" alt="no">&amp; falls.<br>Always.
        <script>document.write("<p>never")</script><noscript>never</noscript>
        <svg><text>never</text></svg><iframe src="http://example.org">never</iframe>
        <ul><li>one<li>two</ul><table><tr><th>a<td>b</table><pre>x\n  y</pre>"""
    found = [(block.text, block.place, block.heading) for block in html_blocks(html)]
    assert found == [
        ("Rivers", "1", True),  # the first heading repeats the title and is left out
        ("Water flows& falls. Always.", "3", False),
        ("one", "6", False),
        ("two", "6", False),
        ("a b", "6", False),
        ("x\n  y", "6", False),
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason", "why"),
    [
        ("a.pdf", pdf("Rivers flow.")[:300], SkipReason.BROKEN, "no PDF that can be read: Failed to load document"),
        ("a.pdf", b"%PDF-1.7\n" + b"\xff" * 500, SkipReason.BROKEN, "no PDF that can be read"),
        ("a.pdf", pdf("", ""), SkipReason.NO_TEXT, "no text on 2 pages (scanned pictures?)"),
        ("a.pdf", b"", SkipReason.EMPTY, "empty"),
        ("a.docx", b"PK\x03\x04 no zip", SkipReason.BROKEN, "no Word document that can be read: File is not a zip"),
        ("a.docx", bytes.fromhex("d0cf11e0a1b11ae1"), SkipReason.ENCRYPTED, "needs a password, or is an old .doc"),
        ("a.html", b"<script>only()</script>", SkipReason.NO_TEXT, "holds no text"),
        ("a.html", b"<p>\x00\x01", SkipReason.BINARY, "binary content"),
    ],
)
def test_documents_that_give_nothing_say_why(
    tmp_path: Path, name: str, content: bytes, reason: SkipReason, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    found, said = refusal(tmp_path / name)
    assert found is reason
    assert said.startswith(why)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    docx_bomb(tmp_path / "a.docx", 100_000_000)
    assert (tmp_path / "a.docx").stat().st_size < 1_000_000
    reason, why = refusal(tmp_path / "a.docx")
    assert reason is SkipReason.TOO_LARGE
    assert why.startswith("unpacks to 99,") or why.startswith("unpacks to 100,")
    assert why.endswith("more than 67,108,864")


def test_a_bomb_that_lies_about_its_size_unpacks_to_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    docx_bomb(path, 100_000_000)
    content = path.read_bytes()
    directory = content.rindex(b"PK\x01\x02", 0, content.rindex(b"word/document.xml"))
    path.write_bytes(content[: directory + 24] + (5_000).to_bytes(4, "little") + content[directory + 28 :])
    limits = DocumentLimits(memory_bytes=400 << 20)
    assert refusal(path, limits)[0] is SkipReason.BROKEN


def test_a_document_beyond_the_memory_limit_is_given_up(tmp_path: Path) -> None:
    docx_bomb(tmp_path / "a.docx", 5_000_000)
    reason, why = refusal(tmp_path / "a.docx", DocumentLimits(memory_bytes=150 << 20))
    assert (reason, why) == (SkipReason.TOO_MUCH_MEMORY, "its conversion needs more memory than is allowed")


def test_a_document_beyond_the_time_limit_is_given_up_and_the_next_is_read(tmp_path: Path) -> None:
    (tmp_path / "slow.html").write_text("<p>word " * 500_000, encoding="utf-8")
    (tmp_path / "next.html").write_text("<p>Rivers", encoding="utf-8")
    with DocumentConverter(DocumentLimits(seconds=0.5)) as converter:
        with pytest.raises(FileSkipped) as refused:
            list(converter.blocks(tmp_path / "slow.html", "html", []))
        assert refused.value.reason is SkipReason.TOO_SLOW
        assert refused.value.why == "its conversion takes longer than 0.5 s"
        assert [block.text for block in converter.blocks(tmp_path / "next.html", "html", [])] == ["Rivers"]


def test_too_large_and_too_much_text(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>" + "river " * 2_000, encoding="utf-8")
    reason, why = refusal(tmp_path / "a.html", DocumentLimits(file_bytes=10_000))
    assert (reason, why) == (SkipReason.TOO_LARGE, "12,003 bytes, more than 10,000")
    reason, why = refusal(tmp_path / "a.html", DocumentLimits(text_bytes=10_000))
    assert (reason, why) == (SkipReason.TOO_MUCH_MEMORY, "holds more text than is allowed")


def test_entities_are_not_blown_up_and_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("SECRET", encoding="utf-8")
    outside = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret.txt">]>'
    docx(tmp_path / "outside.docx", paragraph("before &e; after"), outside)
    assert [text for text, _ in blocks(tmp_path / "outside.docx")] == ["before after"]
    steps = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 50}">' for i in range(9))
    docx(tmp_path / "laughs.docx", paragraph("&e9;"), f'<!DOCTYPE x [<!ENTITY e0 "{"ha" * 50}">{steps}]>')
    reason, why = refusal(tmp_path / "laughs.docx")
    assert reason is SkipReason.BROKEN
    assert "amplification" in why


def test_a_crash_costs_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>Rivers", encoding="utf-8")
    with DocumentConverter() as converter:
        list(converter.blocks(tmp_path / "a.html", "html", []))
        worker = converter._worker
        assert worker is not None
        os.kill(worker._process.pid, 9)
        # The verdict is that of a fresh process, which reads it.
        assert [block.text for block in converter.blocks(tmp_path / "a.html", "html", [])] == ["Rivers"]


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("socket.connect", (None, ("127.0.0.1", 80))),
        ("subprocess.Popen", ("sh", [], None, None)),
        ("os.system", (b"true",)),
        ("open", ("/tmp/other", "w", os.O_WRONLY | os.O_CREAT)),
    ],
)
def test_a_conversion_that_acts_is_refused(
    monkeypatch: pytest.MonkeyPatch, event: str, arguments: tuple[object, ...]
) -> None:
    hooks = []
    monkeypatch.setattr("sys.addaudithook", hooks.append)  # a real hook could never be taken out again
    document_worker._refuse_actions({"/tmp/blocks"})
    hooks[0]("open", ("/tmp/blocks", "w", os.O_WRONLY | os.O_CREAT))
    hooks[0]("open", ("/tmp/any", "r", os.O_RDONLY))
    with pytest.raises(PermissionError, match="conversion tried"):
        hooks[0](event, arguments)


def test_without_the_extra_one_line_names_the_files_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        documents.importlib.util, "find_spec", lambda name: None if name == "mammoth" else find_spec(name)
    )
    for name in ("a.pdf", "b.docx", "c.txt"):
        (tmp_path / name).write_bytes(b"Rivers flow.")
    log = SkipLog()
    assert [passage.text for passage in iter_passages(PassageSource(path=tmp_path), log)] == ["Rivers flow."]
    (skipped,) = log.named
    name = tmp_path.name
    assert (skipped.what, skipped.reason) == (name, SkipReason.NO_CONVERTER)
    assert skipped.why == (
        f"{name}/a.pdf, {name}/b.docx: PDF and Word files are read with an extra: pip install 'taskdef[documents]'"
    )
