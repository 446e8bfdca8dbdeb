r"""LaTeX inside JSON strings: models do not double its backslashes, and JSON reads ``\frac`` as a form feed and rac."""

from __future__ import annotations

import re

_COMMAND = (
    r"[bf][a-zA-Z]"  # backspace and form feed before a letter are always a command: \beta, \frac
    r"|t(?:imes|heta|anh?|ext\w*|[dcf]?frac|binom|o|op|au|ag|riangle\w*|herefore|ilde|hickapprox)(?![a-z])"
    r"|r(?:ight\w*|ho|angle|floor|ceil|m|brace|brack|vert)(?![a-z])"
    r"|n(?:u|eq?|eq\w|abla|ot|otin|eg|geq|leq|mid|exists|sim|subseteq|parallel|onumber|ewline|earrow|warrow)(?![a-z])"
    r"|u(?![0-9a-fA-F]{4})"
    r"|[^\"'\\/bfnrtu\n]"
)
_BACKSLASHES = re.compile(
    rf"(\\+)(\n)?(?=(?P<command>{_COMMAND})?)(?=(?P<word>[a-zA-Z]{{0,6}}))(?=(?P<next>.?))", re.DOTALL
)
_NO_ROW_BREAK = frozenset('({|,;:!%$#_}"')
"""After two backslashes within an environment: a doubled command of one sign. Anything else begins a new row."""


def escape_latex(text: str) -> str:
    r"""Double the backslashes that begin a LaTeX command or no JSON escape at all: ``\frac`` -> ``\\frac``.

    Inside ``\begin … \end``, a row break written as two backslashes becomes the four that JSON wants. ``\'`` (Python's)
    loses its backslash, and a backslash at a line's end goes with the line break, as both mean in Python. The text is
    JSON, not the content of a string; one pass.
    """
    pieces, position, depth = [], 0, 0
    for match in _BACKSLASHES.finditer(text):
        count, word, command = len(match[1]), match["word"], match["command"]
        depth = max(0, depth + (word == "begin") - (word == "end"))
        wanted = count
        if match[2] and count == 1:
            wanted = 0
        elif match[2]:
            wanted = 4 if depth and count == 2 else count
        elif count % 2 and command:
            wanted = 2 * count
        elif count == 1 and match["next"] == "'" and not word:
            wanted = 0
        elif depth and count == 2 and not word and match["next"] not in _NO_ROW_BREAK:
            wanted = 4
        elif depth and count == 3 and word[:1] in ("n", "r", "t"):
            wanted = 5  # a row break, and then JSON's own \n
        pieces += [text[position : match.start()], "\\" * wanted, match[2] or "" if wanted else ""]
        position = match.end()
    return "".join([*pieces, text[position:]])
