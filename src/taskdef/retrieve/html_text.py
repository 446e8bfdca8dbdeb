"""HTML to paragraphs. Scripts, styles and embedded objects are dropped; nothing is run, and no address is opened."""

from __future__ import annotations

from html.parser import HTMLParser

from taskdef.retrieve.passages import Block

_DROPPED = frozenset(
    ("script", "style", "template", "noscript", "iframe", "object", "svg", "canvas", "nav", "select", "button")
)
_HEADINGS = frozenset(("title", "h1", "h2", "h3", "h4", "h5", "h6"))
_PARAGRAPHS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "head", "header", "hr", "html", "legend"),
        *("li", "main", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
    )
)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._text: list[str] = []
        self._line = 0
        self._heading = False
        self._pre = 0
        self._dropping = ""
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropping:
            self._depth += tag == self._dropping
        elif tag in _DROPPED:
            self._dropping, self._depth = tag, 1
        elif tag in _HEADINGS:
            self.end_block()
            self._heading = True
        elif tag in _PARAGRAPHS:
            self.end_block()
            self._pre += tag == "pre"
        elif tag == "br":
            self._text.append("\n" if self._pre else " ")
        elif tag in ("td", "th"):
            self._text.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _DROPPED:  # <script/> has no content that could be dropped
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._dropping:
            self._depth -= tag == self._dropping
            if not self._depth:
                self._dropping = ""
        elif tag in _HEADINGS or tag in _PARAGRAPHS:
            self.end_block()
            self._pre -= tag == "pre" and self._pre > 0

    def handle_data(self, data: str) -> None:
        if self._dropping:
            return
        if data.strip() and not self._line:
            self._line = self.getpos()[0]
        self._text.append(data)

    def end_block(self) -> None:
        text = "".join(self._text)
        text = text.strip("\n").rstrip() if self._pre else " ".join(text.split())
        title_again = self._heading and bool(self.blocks) and self.blocks[-1].heading and self.blocks[-1].text == text
        if text.strip() and not title_again:
            self.blocks.append(Block(text, str(self._line), self._heading))
        self._text = []
        self._line = 0
        self._heading = False


def html_blocks(text: str) -> list[Block]:
    """The text of an HTML document, placed by the line where each block begins."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.end_block()
    return reader.blocks
