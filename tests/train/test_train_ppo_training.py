"""PPO's trainer: shared prompts change no gradient, a stop changes nothing, and the reward rises."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl import GRPOTrainer

from taskdef.config import TrainConfig, build_config
from taskdef.errors import BaseModelError
from taskdef.policy.transformers_policy import TransformersPolicy
from taskdef.progress import SilentProgress
from taskdef.records import Sample, Stage, TaskDefinition, TrainingStep
from taskdef.store import RunDirectory, StageDirectory
from taskdef.train import shared_prompts
from taskdef.train.loop import LOG_FILE, lora_config
from taskdef.train.online import prompt_dataset
from taskdef.train.ppo import PPOTrainer, generalized_advantages, ppo_arguments, rewards_with_kl, whiten
from taskdef.train.stage import train_policy
from taskdef.verify.isolated import Verifier

LoadTiny = Callable[..., TransformersPolicy]

PROMPTS = ["0 + 1?", "1 + 2?"]
COMPLETIONS = [[20, 21, 22, 1], [30, 1], [40, 41, 42, 43], [60, 1], [61, 62, 63, 64], [1]]
SCORES = [1.0, 0.0, 0.1, 0.0, 1.0, None]  # the verifier failed on the last one
SETTINGS: dict[str, Any] = {
    "policy.device": "cpu",
    "policy.dtype": "float32",
    "policy.max_new_tokens": 4,
    "train.method": "ppo",
    "train.learning_rate": 1e-3,
    "train.batch": 2,
    "train.completions": 4,
    "train.micro_batch": 4,
    "train.max_steps": 2,
    "train.save_every": 1,
    "train.format_reward": 0.5,
}
SAMPLES = [Sample(id=letter, input=f"Name {letter}!", solution=letter, answer=letter) for letter in "abcde"]


class FixedTrainer(PPOTrainer):
    """Takes the completions from the table above."""

    def sample_groups(self, prompts: list[str]) -> tuple[list[list[int]], list[list[int]]]:
        return [self.encoder.prompt_ids(prompt) for prompt in prompts], COMPLETIONS


def make_trainer(
    policy: TransformersPolicy, samples: list[Sample], folder: Path, *, lora: bool = False, **settings: Any
) -> FixedTrainer:
    given = {"method": "ppo", "batch": 2, "completions": 3, "micro_batch": 3, "max_steps": 1, "ppo": settings}
    config = TrainConfig.model_validate(given)

    def reward(prompts: list[str], **_: Any) -> list[float | None]:
        return SCORES

    torch.manual_seed(0)  # LoRA draws its first weights
    made = FixedTrainer(
        model=policy.model,
        reward_funcs=reward,
        args=ppo_arguments(
            config, output_dir=str(folder), max_new_tokens=4, samples=len(samples), seed=0, use_cpu=True
        ),
        train_dataset=prompt_dataset(samples, 2),
        processing_class=policy.tokenizer,
        peft_config=lora_config(4) if lora else None,
        encoder=policy.encoder,
        stop_ids=policy.stop_ids,
        batch_tokens=4096,
        settings=config.ppo,
    )
    torch.manual_seed(1)
    with torch.no_grad():  # away from the reference model and from values of 0, or parts of the loss would be 0
        for each in (*made.model.parameters(), *made.value_head.parameters()):
            if each.requires_grad:
                each.add_(torch.randn_like(each) * 0.05)
    return made


def gradients_of(trainer: PPOTrainer) -> dict[str, torch.Tensor]:
    """Of the loss over all rollouts at once, from a policy that has moved on since them."""
    batch = trainer._generate_and_score_completions([{"prompt": prompt} for prompt in PROMPTS for _ in range(3)])
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation
    torch.manual_seed(2)
    with torch.no_grad():
        for each in trainer.model.parameters():
            if each.requires_grad:
                each.add_(torch.randn_like(each) * 0.02)
    trainer._compute_loss(trainer.model, batch).backward()
    named = [*trainer.model.named_parameters(), *trainer.value_head.named_parameters()]
    return {name: each.grad for name, each in named if each.grad is not None}


@pytest.mark.parametrize("lora", [False, True])
def test_sharing_prompts_changes_no_gradient(
    lora: bool,
    tiny_llama: Path,
    load_tiny: LoadTiny,
    sum_samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared, apart = (
        gradients_of(make_trainer(load_tiny(tiny_llama), sum_samples[:2], tmp_path, lora=lora, value_into_policy=0.5))
        for _ in (monkeypatch.setattr(shared_prompts, "MOST_PACKED_POSITIONS", limit) for limit in (4096, 10))
    )
    assert shared.keys() == apart.keys()
    assert {"weight", "bias"} < shared.keys()
    for name, gradient in apart.items():
        assert (shared[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-9, name


def test_the_loss_is_the_formula_over_separate_passes(
    tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], tmp_path: Path
) -> None:
    """No padding, no packing, no micro-batches: token by token from the model's logits."""
    policy = load_tiny(tiny_llama)
    trainer = make_trainer(policy, sum_samples[:2], tmp_path, gamma=0.9, gae_lambda=0.8, value_clip=0.01, clip=0.01)
    model, reference, head = policy.model.eval(), trainer.ref_model, trainer.value_head

    def figures(of: Any) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs, values = torch.zeros(6, 4), torch.zeros(6, 4)
        for row, ids in enumerate(COMPLETIONS[:5]):
            prompt = policy.encoder.prompt_ids(PROMPTS[row // 3])
            output = of(torch.tensor([prompt + ids]), output_hidden_states=True)
            logits = output.logits[0, len(prompt) - 1 : -1] / trainer.temperature
            log_probs[row, : len(ids)] = torch.log_softmax(logits, -1)[torch.arange(len(ids)), torch.tensor(ids)]
            values[row, : len(ids)] = head(output.hidden_states[-1][0, len(prompt) - 1 : -1])
        return log_probs.detach(), values.detach()

    mask = torch.tensor([[float(place < len(ids)) for place in range(4)] for ids in COMPLETIONS])
    mask[5] = 0  # without a verdict
    (old, old_values), (of_reference, _) = figures(model), figures(reference)
    rewards = rewards_with_kl(torch.tensor([each or 0.0 for each in SCORES]), old, of_reference, mask, 0.01)
    advantages, returns = generalized_advantages(rewards, old_values, mask, gamma=0.9, gae_lambda=0.8)
    batch = trainer._generate_and_score_completions([{"prompt": prompt} for prompt in PROMPTS for _ in range(3)])
    assert torch.allclose(batch["advantages"], whiten(advantages, mask), atol=1e-4)
    assert torch.allclose(batch["returns"], returns, atol=1e-5)
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation
    torch.manual_seed(2)
    with torch.no_grad():
        for each in (*model.parameters(), *head.parameters()):
            each.add_(torch.randn_like(each) * 0.02)
    new, new_values = figures(model)
    ratio, normal = (new - old).exp(), whiten(advantages, mask)
    of_policy = -torch.minimum(ratio * normal, ratio.clamp(0.99, 1.01) * normal)
    near = old_values + (new_values - old_values).clamp(-0.01, 0.01)
    of_values = 0.5 * torch.maximum((new_values - returns) ** 2, (near - returns) ** 2)
    expected = ((of_policy + of_values) * mask).sum() / mask.sum()
    assert trainer._compute_loss(trainer.model, batch).item() == pytest.approx(expected.item(), rel=1e-4)
    logged = trainer._metrics["train"]
    assert 0 < logged["clipped_share"][0] < 1
    assert logged["reward"] == [pytest.approx(2.1 / 5)]
    assert logged["completions/clipped_ratio"] == [pytest.approx(2 / 6)]
    assert logged["explained_variance"][0] < 1


def test_micro_batches_make_the_same_step(
    tiny_llama: Path, load_tiny: LoadTiny, sum_samples: list[Sample], tmp_path: Path
) -> None:
    trainer = make_trainer(load_tiny(tiny_llama), sum_samples[:2], tmp_path, passes=1, mini_batches=1)
    assert (trainer.args.gradient_accumulation_steps, trainer.args.per_device_train_batch_size) == (2, 3)
    batch = trainer._generate_and_score_completions([{"prompt": prompt} for prompt in PROMPTS for _ in range(3)])
    trainer.current_gradient_accumulation_steps = 2
    whole = trainer._compute_loss(trainer.model, batch)
    parts = [
        {key: value[rows] if value.dim() else value for key, value in batch.items()}
        for rows in (slice(0, 3), slice(3, 6))
    ]
    assert sum(trainer._compute_loss(trainer.model, part).item() for part in parts) == pytest.approx(whole.item())


def test_a_second_architecture_has_values_too(
    tiny_gemma: Path, load_tiny: LoadTiny, sum_samples: list[Sample], tmp_path: Path
) -> None:
    trainer = make_trainer(load_tiny(tiny_gemma), sum_samples[:2], tmp_path)
    trainer.shares_prefixes = False
    found = gradients_of(trainer)
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert found["weight"].any()


class StopAfter(SilentProgress):
    """Stops the process, as Ctrl-C would, after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, units: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def train(
    tmp_path: Path, tiny_llama: Path, letters: TaskDefinition, letters_verifier: Verifier
) -> Callable[..., StageDirectory]:
    def start(
        name: str, progress: SilentProgress | None = None, samples: list[Sample] = SAMPLES, **settings: Any
    ) -> StageDirectory:
        changes = {key.replace("__", "."): value for key, value in settings.items()}
        config = build_config(overrides=SETTINGS | changes)
        directory = RunDirectory.create(tmp_path / name, letters, config).stage(Stage.TRAIN)
        directory.open()
        train_policy(
            letters,
            samples,
            config,
            start=tiny_llama,
            model_path=directory.run.model_path,
            verifier=letters_verifier,
            directory=directory,
            progress=progress,
        )
        return directory

    return start


def learned(directory: StageDirectory) -> list[dict[str, Any]]:
    """All figures of the steps but their times."""
    return [step.model_dump(exclude={"seconds"}) for step in directory.read_records(LOG_FILE, TrainingStep)]


@pytest.mark.parametrize(
    "settings",
    [{}, pytest.param({"train__adapter": "lora", "train__lora_rank": 4}, marks=pytest.mark.slow)],
    ids=["full", "lora"],
)
def test_going_on_gives_what_an_undisturbed_training_gives(
    settings: dict[str, Any], train: Callable[..., StageDirectory]
) -> None:
    undisturbed = train("undisturbed", **settings)
    with pytest.raises(KeyboardInterrupt):
        train("stopped", StopAfter(2), **settings)
    stopped = train("stopped", **settings)
    assert [step["step"] for step in learned(stopped)] == [1, 2]  # each of two passes of two mini-batches
    assert learned(stopped) == learned(undisturbed)
    for step in learned(stopped):
        for figure in ("reward", "kl", "value_loss", "clipped_share", "entropy", "loss", "gradient_norm"):
            assert step[figure] is not None, figure
    assert any(step["explained_variance"] for step in learned(stopped))
    one, other = (load_file(each.run.model_path / "model.safetensors") for each in (stopped, undisturbed))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert [path.name for path in stopped.path.iterdir()] == [LOG_FILE]
    files = {path.name for path in stopped.run.model_path.iterdir()}
    assert not any("value_head" in file or "adapter" in file for file in files)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"train__method": "rloo"},
        {"train__method": "grpo", "train__iterations": 2, "train__loss_type": "cispo"},
        {"train__method": "grpo", "train__iterations": 2, "train__importance_sampling": "sequence"},
    ],
    ids=["rloo", "cispo twice", "gspo twice"],
)
def test_other_methods_by_rollouts_go_on_too(settings: dict[str, Any], train: Callable[..., StageDirectory]) -> None:
    undisturbed = train("undisturbed", **settings)
    with pytest.raises(KeyboardInterrupt):
        train("stopped", StopAfter(2), **settings)
    stopped = train("stopped", **settings)
    assert [step["step"] for step in learned(stopped)] == [1, 2]
    assert learned(stopped) == learned(undisturbed)
    assert all(step["reward"] is not None and step["kl"] is not None for step in learned(stopped))
    one, other = (load_file(each.run.model_path / "model.safetensors") for each in (stopped, undisturbed))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.slow
def test_bf16_weights_learn(train: Callable[..., StageDirectory]) -> None:
    directory = train("run", policy__dtype="bfloat16", train__max_steps=1)
    saved = load_file(directory.run.model_path / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert learned(directory)[0]["gradient_norm"] > 0


@pytest.mark.slow
def test_the_reward_rises(train: Callable[..., StageDirectory]) -> None:
    """A model that writes noise learns to name a letter: any is worth half a point."""
    directory = train(
        "run",
        samples=SAMPLES[:1],
        train__batch=4,
        train__completions=8,
        train__micro_batch=32,
        train__max_steps=30,
        train__temperature=1.0,
        train__learning_rate=3e-3,
        policy__max_new_tokens=2,
    )
    rewards = [step["reward"] for step in learned(directory)]
    early, late = statistics.fmean(rewards[:5]), statistics.fmean(rewards[-5:])
    assert late > early + 0.2


def test_a_model_with_scaled_logits_is_refused(
    tmp_path: Path, make_llama: Callable[..., Path], letters: TaskDefinition, letters_verifier: Verifier
) -> None:
    config = build_config(overrides=SETTINGS)
    directory = RunDirectory.create(tmp_path / "run", letters, config).stage(Stage.TRAIN)
    directory.open()
    with pytest.raises(BaseModelError) as error:
        train_policy(
            letters,
            SAMPLES,
            config,
            start=make_llama(logits_scaling=8.0),
            model_path=directory.run.model_path,
            verifier=letters_verifier,
            directory=directory,
        )
    assert "its logits are scaled (logits_scaling 8.0), and PPO would learn from others" in error.value.message
    assert error.value.next_step == "--set train.method=grpo, which leaves the logits to the model"


def test_trl_still_saves_and_loads_what_is_overridden() -> None:
    """Without these calls the value head of a training that goes on would start from zero, without an error."""
    for name in ("_save_optimizer_and_scheduler", "_load_optimizer_and_scheduler", "_calculate_rewards"):
        assert callable(getattr(GRPOTrainer, name))
