"""A run that ends for want of memory says so in the terminal and in its report, and goes on with what would fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel

from taskdef import pipeline
from taskdef.config import build_config
from taskdef.errors import OutOfMemory
from taskdef.records import Stage
from taskdef.report.render import render_report
from taskdef.store import FAULT_FILE, RunDirectory

SETTINGS: dict[str, Any] = {
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 4,
    "train.adapter": "none",
    "train.batch": 2,
    "train.completions": 4,
    "train.micro_batch": 8,
    "train.max_steps": 1,
    "train.format_reward": 0.5,
}


@pytest.fixture
def run(make_run: Callable[..., RunDirectory], tiny_llama: Path) -> RunDirectory:
    scored = make_run(until=Stage.SELECT)
    return changed(scored, SETTINGS | {"train.start": str(tiny_llama)})


def changed(run: RunDirectory, settings: dict[str, Any]) -> RunDirectory:
    """The run under other settings, as the command line takes them over."""
    run.config = build_config(overrides=settings, base=run.config)
    run._write_run_file()
    return RunDirectory.open(run.path)


@pytest.mark.parametrize(
    ("training", "sizes", "remedy"),
    [
        (True, "training on 8 sequences at once; weights, gradients and optimizer take", "train.micro_batch=4"),
        (False, "sampling 8 completions at once", "policy.batch_tokens="),
    ],
)
def test_a_fault_is_told_with_the_command_that_goes_on(
    training: bool, sizes: str, remedy: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = LlamaModel.forward

    def fail(self: Any, *arguments: Any, **named: Any) -> Any:
        if torch.is_grad_enabled() is training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity")
        return forward(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(LlamaModel, "forward", fail)
        with pytest.raises(OutOfMemory) as caught:
            pipeline.run(run.definition, run.config, path=run.path, until=Stage.TRAIN)
    fault = caught.value
    assert fault.message.startswith(f"train: out of memory while {sizes}")
    assert "(tried to allocate 2.50 GiB)" in fault.message
    assert fault.next_step is not None
    assert fault.next_step.startswith(f"taskdef run {run.path} --set {remedy}")
    assert pipeline.diagnosis_lines(run)[:2] == [f"problem: {fault.message}", f"  remedy: {fault.next_step}"]
    assert fault.message in (run.path / "report.html").read_text(encoding="utf-8")

    smaller = build_config(overrides=dict(fault.settings), base=run.config)
    done = pipeline.run(run.definition, smaller, path=run.path, until=Stage.TRAIN)  # nothing is redone, none refused
    assert done.stage(Stage.TRAIN).is_done()
    assert not (done.stage(Stage.TRAIN).path / FAULT_FILE).exists()
    assert not any("out of memory" in line for line in pipeline.diagnosis_lines(done))
    assert fault.message not in render_report(done).read_text(encoding="utf-8")


def test_a_setting_that_matters_to_finished_stages_is_named_with_the_stage_to_redo(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    one_at_once = changed(run, {"policy.batch_tokens": 1})
    monkeypatch.setattr(LlamaModel, "forward", fail)
    with pytest.raises(OutOfMemory) as caught:
        pipeline.run_stage(one_at_once, Stage.TRAIN)
    assert caught.value.next_step == f"taskdef run {run.path} --set policy.max_new_tokens=2 --fresh adapt"
