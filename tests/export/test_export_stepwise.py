"""Steps with their labels, worked out by hand from Q and the tokens."""

import json
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
    prompt = "1 + 2?\n\nEnd with #### and the number."
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


def test_process_reward_training_takes_a_step(run: RunDirectory, tmp_path: Path, tiny_chat_llama: Path) -> None:
    prm = pytest.importorskip("trl.experimental.prm", reason="the installed TRL has no PRMTrainer: 1.16 dropped it")
    from datasets import Dataset
    from transformers import AutoModelForTokenClassification

    export_run(run, "stepwise", tmp_path / "steps.jsonl")
    trainer = prm.PRMTrainer(
        model=AutoModelForTokenClassification.from_pretrained(tiny_chat_llama, num_labels=2),
        args=prm.PRMConfig(output_dir=str(tmp_path), max_steps=1, report_to="none", use_cpu=True, bf16=False),
        train_dataset=Dataset.from_json(str(tmp_path / "steps.jsonl")),
        processing_class=load_tokenizer(tiny_chat_llama),
    )
    trainer.train()
    assert trainer.state.global_step == 1
