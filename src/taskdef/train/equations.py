r"""The equations that a solution writes down, and whether they hold: what RFT can check between question and answer.

An equation is a chain of arithmetic expressions with ``=`` between them: ``3 + 4 = 7``, ``12 x $3 = $36``,
``<<1,000/8=125>>``, ``x = 2 \times 5 = 10``. A ``=`` is left alone where what it says cannot be read for certain:
beside letters (``2x = 4``), percent signs, words that go on with the arithmetic (``half of 8 + 2 = 6``).
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

_SIGNS = str.maketrans({"\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-"})
"""Times, middle dot, division sign, minus, en dash."""
_LATEX = re.compile(r"\\(?:times|cdot)\b")
_IGNORED = re.compile(r"\\?[$€£]|\\(?:left|right|,|!)|(?<=\d),(?=\d{3}(?!\d))")
"""Currency, LaTeX that only sets the type, thousands separators."""
_LETTER_TIMES = re.compile(r"(?<=[\d)]) ?[xX] ?(?=[\d(])")
_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<sign>[-+*/()])|(?P<equals>=)|(?P<word>[^\W\d_]+)|(?P<other>\S)"
)
_GOES_ON = frozenset(
    [
        *("of", "by", "per", "than", "times", "plus", "minus", "over", "divided", "multiplied"),
        *("percent", "hundred", "thousand", "million", "billion"),
    ]
)
"""Words by which the arithmetic reaches beyond what stands in signs."""
_BINDS = frozenset("%^_\\{}[]<>!~≈°/'")
"""Characters that do the same. The brackets of GSM8K's ``<<3+4=7>>`` stand apart and are taken off first."""
_LONGEST = 200
"""Characters of an expression; longer ones explain nothing and would be slow to parse."""

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Equation:
    """Two neighbours in a chain of equal expressions."""

    text: str
    """Without blanks, currency and thousands separators, so that equal equations are equal texts."""
    holds: bool
    """Whether both sides are equal; a number with decimals may be rounded or cut off at its last one."""


def written_equations(text: str) -> list[Equation]:
    """All equations in a text that can be checked, in their order. One side at least holds an operator."""
    found = []
    for line in text.splitlines():
        for chain in _chains(line):
            for left, right in pairwise(chain):
                values = _value(left), _value(right)
                if values[0] is not None and values[1] is not None and not (_is_number(left) and _is_number(right)):
                    found.append(Equation(f"{left}={right}", _equal(values[0], values[1], left, right)))
    return found


def _chains(line: str) -> Iterator[list[str]]:
    """Runs of expressions with ``=`` between them; an expression that cannot be read for certain is an empty text."""
    line = _IGNORED.sub("", _LATEX.sub("*", line.translate(_SIGNS))).replace("<<", " ").replace(">>", " ; ")
    tokens = list(_TOKEN.finditer(_LETTER_TIMES.sub("*", line)))
    place = 0
    while place < len(tokens):
        end = place
        while end < len(tokens) and tokens[end].lastgroup in ("number", "sign", "equals"):
            end += 1
        run = tokens[place:end]
        if any(token.lastgroup == "equals" for token in run):
            before = tokens[place - 1] if place else None
            after = tokens[end] if end < len(tokens) else None
            yield _expressions(run, before, after)
        place = end + 1


def _expressions(run: list[re.Match[str]], before: re.Match[str] | None, after: re.Match[str] | None) -> list[str]:
    expressions, current = [], ""
    for token in run:
        if token.lastgroup == "equals":
            expressions.append(current)
            current = ""
        else:
            # two numbers side by side are no number: the blank keeps them from becoming one
            glue = " " if current[-1:].isdigit() and token.lastgroup == "number" else ""
            current += glue + token[0]
    expressions.append(current)
    if before is not None and (_binds(before, before.end() == run[0].start()) or run[0][0] in "+-*/"):
        expressions[0] = ""
    if after is not None and _binds(after, run[-1].end() == after.start()):
        expressions[-1] = ""
    return expressions


def _binds(neighbour: re.Match[str], touches: bool) -> bool:
    """Whether an expression goes on into the token beside it."""
    if neighbour.lastgroup == "word":
        return touches or neighbour[0].lower() in _GOES_ON
    return neighbour[0] in _BINDS


def _value(expression: str) -> Fraction | None:
    """What an arithmetic expression comes to; None where it is none, or divides by zero."""
    if not expression or len(expression) > _LONGEST:
        return None
    try:
        return _evaluate(ast.parse(expression, mode="eval").body, expression)
    except (SyntaxError, ZeroDivisionError, RecursionError, ValueError):
        return None


def _evaluate(node: ast.expr, source: str) -> Fraction:
    """Exact value of a parsed expression. Raises ValueError for what is not plus, minus, times, over, or a number."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(ast.get_source_segment(source, node) or "")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _evaluate(node.operand, source)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluate(node.left, source), _evaluate(node.right, source))
    raise ValueError(f"not arithmetic: {ast.dump(node)}")


def _is_number(expression: str) -> bool:
    return not re.search(r"[-+*/]", expression.lstrip("(+-"))


def _equal(left: Fraction, right: Fraction, left_text: str, right_text: str) -> bool:
    decimals = [
        len(text.rstrip(")").partition(".")[2]) for text in (left_text, right_text) if _is_number(text) and "." in text
    ]
    return left == right or bool(decimals and abs(left - right) < Fraction(1, 10 ** min(decimals)))
