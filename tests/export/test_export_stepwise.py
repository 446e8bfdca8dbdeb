"""Steps with their labels, worked out by hand from Q and the tokens."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from finished_run import build_finished_run

from taskdef.export.formats import export_run
from taskdef.policy.load import load_tokenizer
from taskdef.records import Stage, Verdict
from taskdef.store import RunDirectory
from taskdef.train.q_values import StepValues
from taskdef.train.rollouts import PrefixRollouts, Rollout


@pytest.fixture
def run(tmp_path: Path, tiny_chat_llama: Path) -> RunDirectory:
    """Of s01 a wrong response of three steps, from whose first a correct one was reached; and two correct ones."""
    run = build_finished_run(tmp_path / "sums", model=tiny_chat_llama, **{"train.method": "stepwise"})
    tokenizer = load_tokenizer(tiny_chat_llama)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text)["input_ids"])

    end = (tokenizer.eos_token_id,)
    wrong = ids("One.\nTwo?\n#### 4") + end
    values = StepValues(
        problem_id="s01",
        ids=wrong,
        ends=(len(ids("One.\n")), len(ids("One.\nTwo?\n")), len(wrong)),
        values=(0.9, 0.5, 0.0, 0.0),
        rolled_out=2,
        pit=1,
    )
    texts = [("Add.\n#### 3", Verdict.CORRECT), ("Add.\n#### 3", Verdict.CORRECT), ("#### 3", Verdict.CORRECT)]
    rollouts = [Rollout(ids=ids(text) + end, verdict=verdict) for text, verdict in [*texts, ("#### 4", Verdict.WRONG)]]
    later = Rollout(ids=ids("never\n#### 3") + end, verdict=Verdict.CORRECT)
    directory = run.stage(Stage.TRAIN)
    directory.write_records("steps.jsonl", [values])
    directory.write_records(
        "rollouts.jsonl",
        [
            PrefixRollouts(problem_id="s01", prefix=(), rollouts=tuple(rollouts)),
            PrefixRollouts(problem_id="s01", prefix=wrong[:5], rollouts=(later,)),
        ],
    )
    return run


def test_steps_are_labelled_by_what_they_still_lead_to(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cap = run.config.train.stepwise.wrong_responses
    export_run(run, "stepwise", tmp_path / "steps.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    prompt = "1 + 2?\n\nEnd with #### and the number.\n"
    wrong = {"prompt": prompt, "completions": ["One.", "Two?", "#### 4"], "labels": [True, False, False]}
    right = [["Add.", "#### 3"], ["#### 3"]][:cap]
    assert rows == [
        wrong | {"sample_id": "s01"},
        *(
            {"prompt": prompt, "completions": steps, "labels": [True] * len(steps), "sample_id": "s01"}
            for steps in right
        ),
    ]
    assert capsys.readouterr().out.startswith(f"wrote {len(rows)} responses to ")


TRAIN = """
import sys
from datasets import Dataset
from transformers import AutoModelForTokenClassification, AutoTokenizer
from trl import PRMConfig, PRMTrainer
rows, model, out = sys.argv[1:]
arguments = PRMConfig(output_dir=out, max_steps=1, report_to="none", use_cpu=True, bf16=False, logging_steps=1,
                      per_device_train_batch_size=2, gradient_checkpointing=False, save_strategy="no")
trainer = PRMTrainer(
    model=AutoModelForTokenClassification.from_pretrained(model, num_labels=2),
    args=arguments,
    train_dataset=Dataset.from_json(rows),
    processing_class=AutoTokenizer.from_pretrained(model),
)
print([[label for label in row["labels"] if label != -100] for row in trainer.train_dataset])
trainer.train()
print(trainer.state.global_step, trainer.state.log_history[0]["loss"] > 0)
"""


@pytest.mark.slow
def test_process_reward_training_takes_a_step(run: RunDirectory, tmp_path: Path, tiny_chat_llama: Path) -> None:
    python = os.environ.get("TASKDEF_PRM_PYTHON")
    if not python:
        pytest.skip("TASKDEF_PRM_PYTHON names no Python whose TRL still has a PRMTrainer (0.24, say; 1.16 has none)")
    export_run(run, "stepwise", tmp_path / "steps.jsonl")
    words = [str(tmp_path / "steps.jsonl"), str(tiny_chat_llama), str(tmp_path / "out")]
    done = subprocess.run([python, "-c", TRAIN, *words], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line[:1] in "[1"]
    assert lines[0].startswith("[[1, 0, 0], [1, 1]")
    assert lines[-1] == "1 True"
