"""Comparisons end to end: what is shared is computed once, and the pages say what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable

from taskdef.compare.comparison import Comparison
from taskdef.compare.page import write_pages
from taskdef.compare.results import read_results
from taskdef.compare.run import run_comparison
from taskdef.records import Stage


def test_two_variants_share_what_is_the_same(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison({"full": {}, "easy": {"settings": {"select.strategy": "easy"}}})
    comparison.begin()
    run_comparison(comparison)
    results = read_results(comparison)
    assert {stage.value: counts for stage, counts in results.shared.stages.items()} == {
        "retrieve": (1, 1),
        "synthesize": (1, 1),
        "adapt": (1, 1),
        "select": (2, 0),
        "train": (2, 0),
        "evaluate": (2, 0),
    }
    assert results.shared.twice == 0
    full, easy = (comparison.run(cell) for cell in comparison.matrix.runs())
    assert full.stage(Stage.ADAPT).manifest() == easy.stage(Stage.ADAPT).manifest()
    samples = json.loads((full.stage(Stage.SELECT).path / "manifest.json").read_text())["summary"]["scored"]
    # both choices from one scoring, one evaluation of the base model: 2 attempts a sample, and 6 rows, were taken over
    greedy = (
        full.stage(Stage.ADAPT).manifest().summary["solved"] + full.stage(Stage.ADAPT).manifest().summary["unsolved"]
    )
    assert results.shared.attempts[1] == greedy + 2 * samples + 6
    begun = {(e.run, e.stage): e.attempts for e in comparison.journal() if e.event == "begun"}
    assert begun["easy-seed0", Stage.SELECT] == 2 * samples
    assert begun["easy-seed0", Stage.EVALUATE] == 6
    page = write_pages(comparison)
    assert "easy" in page.read_text()
    assert "| full (reference) | 1 |" in (comparison.path / "comparison.md").read_text()
    journal = comparison.journal()
    run_comparison(comparison)
    assert comparison.journal() == journal
