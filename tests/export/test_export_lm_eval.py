"""lm-eval evaluates an exported model folder on a task of its own, and agrees with taskdef on what the model says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from finished_run import SUMS, build_finished_run

from taskdef.export.formats import export_run
from taskdef.verify.isolated import Verifier

pytestmark = pytest.mark.slow


def test_lm_eval_runs_the_model_from_its_folder(tmp_path: Path, tiny_chat_llama: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'taskdef[lm-eval]'")
    run = build_finished_run(tmp_path / "sums", model=tiny_chat_llama)
    export_run(run, "model", tmp_path / "model")
    rows = [{"input": f"{n} + {n}?", "output": f"#### {2 * n}"} for n in range(1, 9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "own_sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{ input }}\n\n" + SUMS.output_format,
        "doc_to_target": "{{ output.split('#### ')[1] }}",
        "generation_kwargs": {"do_sample": False, "max_gen_toks": 12, "until": ["<end>"]},
        # an untrained model says nothing: whatever it writes first is taken for its answer
        "filter_list": [{"name": "first", "filter": [{"function": "regex", "regex_pattern": "(.)"},
                                                     {"function": "take_first"}]}],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "own_sums.yaml").write_text(yaml.safe_dump(task))
    words = ["--model", "hf", "--model_args", f"pretrained={tmp_path / 'model'},dtype=float32", "--device", "cpu"]
    words += ["--tasks", "own_sums", "--include_path", str(tmp_path / "tasks"), "--apply_chat_template"]
    words += ["--batch_size", "4", "--output_path", str(tmp_path / "out"), "--log_samples"]
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", *words],
        capture_output=True,
        text=True,
        timeout=1500,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(next((tmp_path / "out").rglob("results_*.json")).read_text())
    assert results["n-samples"]["own_sums"]["effective"] == 8
    assert results["results"]["own_sums"]["exact_match,first"] in [n / 8 for n in range(9)]
    sampled = next((tmp_path / "out").rglob("samples_own_sums_*.jsonl")).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["resps"][0][0] for line in sampled]
    with Verifier(SUMS.answer) as verifier:
        assert [reading.answer for reading in verifier.read_all(texts)] == [None] * 8
