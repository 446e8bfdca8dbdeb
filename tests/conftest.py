"""Shared parts: base models of some thousand weights, made on the spot, and the task they are asked to do."""

from __future__ import annotations

import atexit
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_models import save_llama, save_tiny

from taskdef.policy.builtin import cache_folder
from taskdef.records import AnswerComparison, AnswerReading, AnswerSpec, Sample, TaskDefinition
from taskdef.verify.isolated import Verifier

if TYPE_CHECKING:
    from taskdef.policy.transformers_policy import TransformersPolicy

# Threads cost these models more than they bring, most of all where another process keeps the cores busy: a thread that
# waits for its turn holds all others up.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background with Ctrl-C ignored, which every process of a test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _own_cache() -> None:
    """A cache folder of the tests' own, so that the indexes they build are gone with them; the model in it is kept."""
    kept = cache_folder() / "smollm2-135m"
    folder = tempfile.TemporaryDirectory(prefix="taskdef-tests-")
    atexit.register(folder.cleanup)
    if kept.is_dir():
        (Path(folder.name) / kept.name).symlink_to(kept)
        os.environ["TASKDEF_CACHE"] = folder.name


_own_cache()


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_chat_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chat template."""
    return save_llama(tmp_path_factory.mktemp("models") / "tiny-chat-llama", chat=True)


@pytest.fixture(scope="session")
def make_llama(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a Llama with other dimensions: ``make_llama(max_position_embeddings=8)``."""
    return lambda **changes: save_llama(tmp_path_factory.mktemp("models") / "llama", **changes)


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second architecture, whose first layer sees the last 16 tokens only."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return save_tiny(
        tmp_path_factory.mktemp("models") / "tiny-gemma",
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"],
    )


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen 3, whose second layer sees the last 16 tokens only."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return save_tiny(
        tmp_path_factory.mktemp("models") / "tiny-qwen",
        Qwen3ForCausalLM,
        Qwen3Config,
        use_sliding_window=True,
        sliding_window=16,
        max_window_layers=1,
    )


@pytest.fixture(scope="session")
def tiny_mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mistral, all of whose layers see the last 16 tokens only."""
    from transformers import MistralConfig, MistralForCausalLM

    return save_tiny(
        tmp_path_factory.mktemp("models") / "tiny-mistral", MistralForCausalLM, MistralConfig, sliding_window=16
    )


@pytest.fixture(scope="session")
def tiny_lfm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LFM 2, whose first layer is a convolution: no prompt can be shared."""
    from transformers import Lfm2Config, Lfm2ForCausalLM

    return save_tiny(
        tmp_path_factory.mktemp("models") / "tiny-lfm",
        Lfm2ForCausalLM,
        Lfm2Config,
        layer_types=["conv", "full_attention"],
    )


@pytest.fixture(scope="session")
def sums() -> TaskDefinition:
    """Additions; the answer is the number after ``####``."""
    return TaskDefinition(
        name="sums",
        description="Add two numbers.",
        output_format="End with #### and the number.",
        answer=AnswerSpec(read=AnswerReading.NUMBER_AFTER_MARKER, compare=AnswerComparison.NUMERIC),
    )


@pytest.fixture(scope="session")
def letters() -> TaskDefinition:
    """A task that noise sometimes solves: the answer is the last ASCII letter or digit of the output."""
    return TaskDefinition(
        name="letters",
        description="Name a letter or a digit.",
        output_format="One letter.",
        answer=AnswerSpec(read=AnswerReading.REGEX, pattern="[A-Za-z0-9]", compare=AnswerComparison.TEXT),
    )


@pytest.fixture(scope="session")
def sums_verifier(sums: TaskDefinition) -> Iterator[Verifier]:
    with Verifier(sums.answer) as verifier:
        yield verifier


@pytest.fixture(scope="session")
def letters_verifier(letters: TaskDefinition) -> Iterator[Verifier]:
    with Verifier(letters.answer) as verifier:
        yield verifier


@pytest.fixture
def sum_samples() -> list[Sample]:
    return [
        Sample(id=f"s{n}", input=f"{n} + {n + 1}?", solution=f"#### {2 * n + 1}", answer=str(2 * n + 1))
        for n in range(12)
    ]


@pytest.fixture
def load_tiny(sums: TaskDefinition) -> Callable[..., TransformersPolicy]:
    """Loads a folder as a float32 CPU policy: ``load_tiny(folder, max_new_tokens=4)``."""
    from taskdef.config import PolicyConfig
    from taskdef.policy.load import load_policy

    def load(folder: Path, definition: TaskDefinition = sums, **settings: Any) -> TransformersPolicy:
        given = {"device": "cpu", "dtype": "float32", "max_new_tokens": 8, "max_prompt_tokens": 512} | settings
        return load_policy(folder, definition, PolicyConfig.model_validate(given))

    return load


@pytest.fixture
def offline_environment() -> dict[str, str]:
    """The environment for a process of its own: nothing of the hub's cache, nothing that names a key."""
    return {name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_TOKEN"))}
