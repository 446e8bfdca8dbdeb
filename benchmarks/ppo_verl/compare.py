"""PPO's arithmetic against verl's core algorithms, on random tensors; prints the largest differences.

    python benchmarks/ppo_verl/compare.py [--environment FOLDER]

verl wants an older transformers than taskdef, so it runs in an environment of its own: the one named by --environment
or TASKDEF_VERL, else one that is made under the cache folder (some minutes and 3 GB, once).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

VERL = "verl==0.9.1"
PROBE = "import verl.trainer.ppo.core_algos"
SETTINGS: list[dict[str, Any]] = [
    {"beta": 0.05, "gamma": 1.0, "lambda": 1.0, "clip": 0.2, "value_clip": 0.5},
    {"beta": 0.0, "gamma": 0.99, "lambda": 0.95, "clip": 0.1, "value_clip": 0.2},
    {"beta": 1.0, "gamma": 0.9, "lambda": 0.0, "clip": 0.4, "value_clip": 0.05},
]


class NoEnvironment(Exception):
    """verl can neither be found nor installed here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, default=None)
    python = find_environment(parser.parse_args().environment)
    for settings, found in zip(SETTINGS, differences(python), strict=True):
        print(" ".join(f"{name} {value}" for name, value in settings.items()))
        for name, (difference, scale) in found.items():
            print(f"  {name:<30} largest difference {difference:.1e}, largest value {scale:.2g}")


def find_environment(folder: Path | None = None) -> Path:
    """The Python of an environment with verl; made where there is none. Raises NoEnvironment."""
    from taskdef.policy.builtin import cache_folder

    named = folder or os.environ.get("TASKDEF_VERL")
    place = Path(named) if named else cache_folder() / "verl-environment"
    python = place / "bin" / "python"
    if not python.exists() and not named:
        venv.create(place, with_pip=True)
        torch_version = torch.__version__.partition("+")[0]  # verl's own choice of torch would bring CUDA along
        _run([python, "-m", "pip", "install", "-q", VERL, f"torch=={torch_version}"], seconds=1800)
    _run([python, "-c", PROBE], seconds=1800)
    return python


def _run(command: list[Any], *, seconds: int) -> None:
    try:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, timeout=seconds)
    except subprocess.CalledProcessError as error:
        raise NoEnvironment(f"{command[1:]}: {error.stderr.strip().splitlines()[-1:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoEnvironment(str(error)) from error


def random_rollouts(rows: int, width: int, seed: int) -> dict[str, torch.Tensor]:
    """Completions of unequal length with old, new and reference log-probabilities and values; verdicts at the end."""
    draw = torch.Generator().manual_seed(seed)

    def normal(scale: float, mean: float = 0.0) -> torch.Tensor:
        return mean + scale * torch.randn(rows, width, generator=draw)

    lengths = torch.randint(1, width + 1, (rows,), generator=draw)
    mask = (torch.arange(width) < lengths[:, None]).float()
    verdicts = torch.randint(0, 2, (rows,), generator=draw).float()
    scores = torch.zeros(rows, width)
    scores[torch.arange(rows), lengths - 1] = verdicts
    log_probs, values = normal(1.0, -2.0), normal(0.3, 0.5)
    return {
        "mask": mask,
        "verdicts": verdicts,
        "scores": scores,
        "log_probs": log_probs,
        "ref_log_probs": log_probs + normal(0.2),
        "new_log_probs": log_probs + normal(0.3),
        "values": values,
        "new_values": values + normal(0.3),
    }


def differences(python: Path) -> list[dict[str, tuple[float, float]]]:
    """By settings and name: the largest absolute difference between both sides, and the largest value."""
    given = [random_rollouts(rows=64, width=48, seed=seed) for seed in range(len(SETTINGS))]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
        save_file({f"{seed}/{name}": value for seed, one in enumerate(given) for name, value in one.items()}, source)
        side = Path(__file__).with_name("verl_side.py")
        _run([python, side, source, target, json.dumps(SETTINGS)], seconds=1800)
        theirs = load_file(target)
    found = []
    for seed, (one, settings) in enumerate(zip(given, SETTINGS, strict=True)):
        of_case = {}
        for name, value in computed_here(one, settings).items():
            other = theirs.pop(f"{seed}/{name}")
            of_case[name] = (float((value - other).abs().max()), float(other.abs().max()))
        found.append(of_case)
    assert not theirs
    return found


def computed_here(given: dict[str, torch.Tensor], settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The same by taskdef's functions."""
    from taskdef.train.ppo import generalized_advantages, policy_losses, rewards_with_kl, value_losses, whiten

    mask = given["mask"]
    rewards = rewards_with_kl(given["verdicts"], given["log_probs"], given["ref_log_probs"], mask, settings["beta"])
    advantages, returns = generalized_advantages(
        rewards, given["values"], mask, gamma=settings["gamma"], gae_lambda=settings["lambda"]
    )
    advantages = whiten(advantages, mask)
    new_log_probs = given["new_log_probs"].clone().requires_grad_()
    of_policy, clipped = policy_losses(new_log_probs, given["log_probs"], advantages, settings["clip"])
    new_values = given["new_values"].clone().requires_grad_()
    of_values = value_losses(new_values, given["values"], returns, settings["value_clip"])
    policy_loss, value_loss = ((losses * mask).sum() / mask.sum() for losses in (of_policy, of_values))
    (policy_loss + value_loss).backward()
    assert new_log_probs.grad is not None
    assert new_values.grad is not None
    return {
        "rewards": rewards,
        "whitened advantages": advantages,
        "returns": returns,
        "policy loss": policy_loss.detach(),
        "clipped share": (clipped * mask).sum() / mask.sum(),
        "value loss": value_loss.detach(),
        "gradient of log-probabilities": new_log_probs.grad,
        "gradient of values": new_values.grad,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main()
    except NoEnvironment as error:
        sys.exit(f"no environment with {VERL}: {error}")
