"""The report shows what an analysis measured, and says nothing where there was none."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from taskdef.errors import RunError
from taskdef.report.render import render_report
from taskdef.store import RunDirectory

TEXTS = {
    "name": "initial",
    "count": 200,
    "input_tokens": [10, 12, 20],
    "solution_tokens": None,
    "distinct": {"1": 0.1, "2": 0.25, "3": None},
    "distinct_texts": 150,
    "self_bleu": 42.5,
    "equal": 3,
    "near": 0,
}
ANALYSIS: dict[str, Any] = {
    "human": "<b>people.jsonl</b>",
    "texts": [TEXTS, TEXTS | {"name": "human"}],
    "similarity": [
        {
            "name": "initial",
            "texts": 3,
            "pairs": 3,
            "mean": 0.625,
            "nearest": 0.875,
            "counts": [0] * 40 + [1] + [2] + [0] * 8,
            "low": -0.25,
            "high": 1.0,
        }
    ],
    "rates": [{"name": "human", "attempts": [4, 4], "rates": [0.0, 0.5], "missing": 0}],
    "votes": {
        "matched": 9,
        "unjudged": 1,
        "correct": 6,
        "bins": [
            {"low": 0.5, "high": 0.6, "labels": 0, "correct": 0, "share": None, "share_low": None, "share_high": None},
            {
                "low": 0.9,
                "high": 1.0,
                "labels": 8,
                "correct": 6,
                "share": 0.75,
                "share_low": 0.409,
                "share_high": 0.929,
            },
        ],
    },
    "not_measured": {"similarity of people": "<i>no model</i>"},
}


def write(run: RunDirectory, content: str) -> None:
    (run.path / "analysis").mkdir()
    (run.path / "analysis" / "analysis.json").write_text(content, encoding="utf-8")


def test_the_page_shows_the_figures(make_run: Callable[..., RunDirectory]) -> None:
    run = make_run()
    write(run, json.dumps(ANALYSIS))
    page = render_report(run).read_text(encoding="utf-8")
    row = page.partition("<td>Initial samples</td>")[2].partition("</tr>")[0]
    cells = [cell.partition("</td>")[0] for cell in row.split('<td class="num">')[1:]]
    assert cells == ["200", "12", "\u2013", "0.25", "\u2013", "42.5", "0.625", "0.875", "3", "0"]
    assert "Likeness: initial samples" in page
    assert "0.750 to 0.775: 333 of a thousand pairs" in page
    assert "Pass rates: human data" in page
    assert "over 90% to 100%" in page
    assert "over 50% to 60%" not in page
    assert "Human data: &lt;b&gt;people.jsonl&lt;/b&gt;." in page
    assert "Not measured: similarity of people: &lt;i&gt;no model&lt;/i&gt;" in page


def test_without_an_analysis_there_is_no_such_part(make_run: Callable[..., RunDirectory]) -> None:
    assert 'id="analysis"' not in render_report(make_run()).read_text(encoding="utf-8")


def test_a_damaged_analysis_says_how_to_make_it_anew(make_run: Callable[..., RunDirectory]) -> None:
    run = make_run()
    write(run, "{")
    with pytest.raises(RunError, match=r"analysis\.json: damaged: .*\n  next: taskdef analyze "):
        render_report(run)
