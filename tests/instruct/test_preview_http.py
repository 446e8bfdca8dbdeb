"""A preview over HTTP: tokens and cost as the server counts them, and what the run that follows still asks."""

import contextlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, chat_server, completion

from taskdef.cli import main
from taskdef.instruct.ledger import Ledger

TASK = """\
name: sums
description: Add two whole numbers.
output_format: End with "####" and the sum.
answer: {read: number_after_marker, compare: numeric}
"""
WORDS = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "juniper", "kelp", "lagoon"]


def instructor(body: dict[str, Any], number: int) -> Reply:
    """A new question for every draft and rewrite, 5 for every vote; 7 tokens read and 3 written each time."""
    if "response_format" not in body:
        return completion("#### 5")
    word = WORDS[number % len(WORDS)]
    return completion(json.dumps({"input": f"{word} {number}: how many {word}s?", "output": "#### 5"}))


@pytest.fixture
def call(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a command that must succeed; gives its stdout."""
    (tmp_path / "task.yaml").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    settings = {
        "synthesize.samples": 6,
        "synthesize.votes": 2,
        "warm_up.mode": "never",
        "policy.max_new_tokens": 4,
        "policy.device": "cpu",
        "policy.dtype": "float32",
        "instruct.price_input": 1000,
        "instruct.price_output": 2000,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]

    def call(verb: str, url: str, *more: str) -> str:
        named = ("--instructor", f"openai:m@{url}", "--base-model", str(tiny_llama))
        monkeypatch.setattr(sys, "argv", ["taskdef", verb, "task.yaml", *named, *words, *more])
        main_code = 0
        try:
            main()
        except SystemExit as end:
            main_code = int(end.code or 0)
        out, err = capsys.readouterr()
        assert main_code == 0, err
        return out

    return call


def row(out: str, name: str) -> list[str]:
    """Cells of a line of the projection."""
    line = next(line for line in out.splitlines() if line.startswith(name))
    return re.split(r"\s{2,}", line.strip())


def test_cost_and_tokens_are_the_servers_and_the_run_stays_in_the_range(call: Callable[..., str]) -> None:
    with chat_server(instructor) as server:
        out = call("preview", server.url, "--samples", "3")
        previewed = len(server.requests)
        calls, cost = row(out, "instructor calls"), row(out, "cost (usd)")
        assert calls[3] == f"{previewed}"
        assert cost[3] == f"{previewed * (7 * 1000 + 3 * 2000) / 1e6:.4f}"
        assert row(out, "tokens read")[3] == f"{7 * previewed}"
        assert row(out, "tokens written")[3] == f"{3 * previewed}"
        assert "unknown" not in out

        call("run", server.url, "--until", "adapt")
        followed = len(server.requests) - previewed
    low, high = (int(bound.replace(",", "")) for bound in calls[4].split(" to "))
    assert low <= followed <= high
    with contextlib.closing(Ledger(Path("runs/sums/ledger.sqlite"), read_only=True)) as ledger:
        totals = ledger.totals()
    assert (totals.requests, totals.from_cache) == (followed, previewed)
