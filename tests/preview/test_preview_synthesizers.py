"""A preview with another synthesizer: steps of each draft, its calls in the projection, nothing asked again later."""

import contextlib
import json
import sys
from pathlib import Path

import pytest

from taskdef.cli import main
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.writing import LAST_STEPS

TASK = """\
name: sums
description: Add two whole numbers.
output_format: End with "####" and the sum.
answer: {read: number_after_marker, compare: numeric}
passages: [{path: library.jsonl}]
"""
SCRIPT: list[dict[str, object]] = [
    {"purpose": "keywords", "response": '{"keywords": ["crates"]}'},
    {"purpose": "concepts", "match": "apples", "response": '{"topics": ["Fruit"], "concepts": ["weight", "price"]}'},
    {"purpose": "concepts", "response": '{"topics": ["Freight"], "concepts": ["weight", "load"]}'},
    {
        "purpose": "questions",
        "match": "stand between marks",
        "response": '{"questions": [{"concepts": ["load"], "question": "Crates: 31 and 4?"}]}',
    },
    {"purpose": "questions", "match": '"original"', "response": '{"questions": [{"question": "Old: 52 and 7?"}]}'},
    {"purpose": "questions", "response": '{"questions": [{"concepts": ["price"], "question": "Price: 8 and 90?"}]}'},
    *(
        {"purpose": purpose, "match": f" {one} and", "response": form.format(sum=total)}
        for one, total in ((31, 35), (52, 59), (8, 98))
        for purpose, form in (("solve", '{{"output": "#### {sum}"}}'), ("answer", "#### {sum}"))
    ),
]
SETTINGS = {
    "synthesize.method": "synthllm",
    "synthesize.samples": 3,
    "synthesize.votes": 2,
    "synthesize.max_draft_factor": 1,
    "adapt.enabled": "false",
    "warm_up.mode": "never",
    "policy.max_new_tokens": 6,
    "policy.device": "cpu",
    "policy.dtype": "float32",
}


def test_a_preview_shows_the_steps_and_the_run_takes_them_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_llama: Path
) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    texts = ("Farms sell apples in crates.", "Ships carry crates of steel.")
    (tmp_path / "library.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SCRIPT))
    monkeypatch.setenv("TASKDEF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    words = ["task.yaml", "--instructor", "scripted:script.jsonl", "--base-model", str(tiny_llama)]
    words += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]

    def call(verb: str, *more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["taskdef", verb, *words, *more])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert not end.value.code, err
        return out

    lines = [" ".join(line.split()) for line in call("preview", "--samples", "3").splitlines()]
    first = lines.index("draft s00000")
    assert lines[first + 1].startswith("passage library.jsonl")
    assert lines[first + 2 : first + 5] == ["level 1", "origin new", "question Old: 52 and 7?"]
    third = lines[lines.index("draft s00002") :]
    assert third[2:4] == ["level 3", "concepts load"]
    assert third[4].startswith("passage 2 library.jsonl")
    assert "draft s00001" in lines
    asked = {line.split()[0]: line.split()[1] for line in lines if line.split()[:1] and line.split()[0] in LAST_STEPS}
    assert asked == {"solve": "3"}
    # keywords, 2 documents, a list of each level, 3 solutions, 3 votes: a run of these three drafts is no more
    assert any(line.startswith("instructor calls 12 12 to 12 12 0 to 0") for line in lines), lines

    call("run", "--until", "synthesize")
    with contextlib.closing(Ledger(tmp_path / "runs" / "sums" / "ledger.sqlite", read_only=True)) as ledger:
        totals = ledger.totals()
    assert (totals.requests, totals.from_cache) == (0, 2 * 3 + 3 + 3 + 2 + 1)
