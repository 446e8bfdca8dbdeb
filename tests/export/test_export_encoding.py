"""Rows on stdout are JSON in UTF-8 in every locale."""

import io
import json
import sys

import pytest

from taskdef.export.rows import Rows, write_rows


def test_rows_lose_no_letter_where_the_terminal_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    into = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(into, encoding="latin-1", errors="replace"))
    write_rows(Rows([{"response": "é 数"}], "calls"), None)
    sys.stdout.flush()
    assert json.loads(into.getvalue().decode("utf-8")) == {"response": "é 数"}
