"""TRL's trainers read the exported rows and take a step on them, on the very tokens that taskdef trains on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished_run import SAMPLES, SUMS, build_finished_run

from taskdef.export.formats import Choices, export_run
from taskdef.policy.load import load_tokenizer
from taskdef.policy.prompting import PromptEncoder
from taskdef.store import RunDirectory

TEMPLATE = (
    "{% for message in messages %}{{ '<user>' if message['role'] == 'user' else '<model>' }}"
    "{{ message['content'] }}<end>{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_chat_llama: Path) -> RunDirectory:
    return build_finished_run(tmp_path_factory.mktemp("export") / "sums", model=tiny_chat_llama)


@pytest.fixture
def load(run: RunDirectory, tmp_path: Path) -> Callable[..., Any]:
    """Exports a form and loads it as a consumer does: ``load("prompts", "chat")``."""
    import datasets

    def load(name: str, style: str | None = None) -> Any:
        export_run(run, name, tmp_path / "rows.jsonl", Choices(style=style))  # type: ignore[arg-type]
        return datasets.load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=tmp_path)

    return load


@pytest.fixture
def parts(tiny_chat_llama: Path, tmp_path: Path) -> dict[str, Any]:
    """Model, tokenizer and what all trainers are told."""
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(tiny_chat_llama)
    tokenizer.chat_template = TEMPLATE
    return {"model": AutoModelForCausalLM.from_pretrained(tiny_chat_llama), "processing_class": tokenizer}


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }


def stepped(trainer: Any) -> dict[str, float]:
    """What one step logged; the weights have moved."""
    before = trainer.model.lm_head.weight.detach().clone()
    trainer.train()
    assert not before.equal(trainer.model.lm_head.weight)
    return dict(trainer.state.log_history[0])


@pytest.mark.parametrize(
    ("name", "style"), [("prompt-completion", "plain"), ("prompt-completion", "chat"), ("messages", None)]
)
def test_sft_sees_taskdefs_own_tokens(
    load: Callable[..., Any], parts: dict[str, Any], tmp_path: Path, name: str, style: str | None
) -> None:
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(args=SFTConfig(**arguments(tmp_path)), train_dataset=load(name, style), **parts)
    encoder = PromptEncoder(SUMS, parts["processing_class"], "plain" if style == "plain" else "chat")
    first = SAMPLES[1]
    wanted = [*encoder.prompt_ids(first.input), *encoder.completion_ids(first.solution)]
    assert trainer.train_dataset[0]["input_ids"] == wanted
    assert stepped(trainer)["loss"] > 0


@pytest.mark.parametrize("style", [pytest.param("plain", marks=pytest.mark.slow), "chat"])
def test_dpo_takes_a_step(load: Callable[..., Any], parts: dict[str, Any], tmp_path: Path, style: str) -> None:
    from trl import DPOConfig, DPOTrainer

    logged = stepped(
        DPOTrainer(args=DPOConfig(**arguments(tmp_path)), train_dataset=load("preference", style), **parts)
    )
    assert logged["loss"] == pytest.approx(0.6931, abs=1e-3)  # ln 2: the policy is the reference


def test_grpo_is_given_what_its_reward_needs(load: Callable[..., Any], parts: dict[str, Any], tmp_path: Path) -> None:
    from trl import GRPOConfig, GRPOTrainer

    seen: list[tuple[str, str]] = []

    def reward(completions: list[Any], answer: list[str], solution: list[str], **_: Any) -> list[float]:
        seen.extend(zip(answer, solution, strict=True))
        return [float(place % 2) for place in range(len(completions))]  # an untrained model solves nothing

    config = GRPOConfig(**arguments(tmp_path), num_generations=2, max_completion_length=4)
    logged = stepped(GRPOTrainer(args=config, train_dataset=load("prompts", "chat"), reward_funcs=reward, **parts))
    assert logged["reward"] == 0.5
    assert all(solution.endswith(f"#### {answer}") for answer, solution in seen)
