"""verl's own data set class reads the exported Parquet, in the environment that TASKDEF_VERL_PYTHON names."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from finished_run import build_finished_run

from taskdef.export.formats import Choices, export_run

READ = """
import json, sys
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
settings = {"cache_dir": sys.argv[3], "max_prompt_length": 512, "filter_overlong_prompts_workers": 1}
rows = RLHFDataset(data_files=sys.argv[1], tokenizer=tokenizer, config=OmegaConf.create(settings))
batch = collate_fn([rows[0], rows[1]])
from verl.utils.reward_score import default_compute_score
row = rows[0]
truth = row["reward_model"]["ground_truth"]
print(json.dumps({
    "count": len(rows),
    "raw_prompt": list(row["raw_prompt"]),
    "ground_truth": truth,
    "index": row["index"],
    "columns": sorted(batch),
    "right": default_compute_score(row["data_source"], "so\\n#### " + truth, truth),
    "wrong": default_compute_score(row["data_source"], "so\\n#### 99", truth),
}))
"""


@pytest.mark.slow
def test_verl_reads_the_rows_and_rewards_the_label(tmp_path: Path, tiny_chat_llama: Path) -> None:
    python = os.environ.get("TASKDEF_VERL_PYTHON")
    if not python:
        pytest.skip("TASKDEF_VERL_PYTHON names no Python with verl 0.9.1, which needs an environment of its own")
    run = build_finished_run(tmp_path / "sums")
    export_run(run, "verl", tmp_path / "train.parquet", Choices(data_source="openai/gsm8k"))
    words = [str(tmp_path / "train.parquet"), str(tiny_chat_llama), str(tmp_path / "cache")]
    done = subprocess.run([python, "-c", READ, *words], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["count"] == 8
    assert found["raw_prompt"] == [{"role": "user", "content": "1 + 2?\n\nEnd with #### and the number."}]
    assert (found["ground_truth"], found["index"]) == ("3", 0)
    assert {"data_source", "reward_model", "raw_prompt", "extra_info"} <= set(found["columns"])
    assert (found["right"], found["wrong"]) == (1.0, 0.0)
