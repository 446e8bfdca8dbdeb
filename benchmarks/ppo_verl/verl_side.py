"""Runs in verl's own environment: reads tensors, computes with verl's core algorithms, writes what came out.

python verl_side.py INPUTS.safetensors OUTPUTS.safetensors '{"gamma": 1.0, ...}'
"""

from __future__ import annotations

import json
import sys

import torch
from safetensors.torch import load_file, save_file
from verl.trainer.ppo import core_algos


def main(source: str, target: str, settings: str) -> None:
    given, results = load_file(source), {}
    for number, chosen in enumerate(json.loads(settings)):
        of_case = {name.partition("/")[2]: value for name, value in given.items() if name.startswith(f"{number}/")}
        results |= {f"{number}/{name}": value.contiguous() for name, value in compute(of_case, chosen).items()}
    save_file(results, target)


def compute(given: dict[str, torch.Tensor], chosen: dict[str, float]) -> dict[str, torch.Tensor]:
    mask = given["mask"]
    kl = core_algos.kl_penalty(given["log_probs"], given["ref_log_probs"], kl_penalty="kl") * mask
    rewards = given["scores"] - chosen["beta"] * kl
    advantages, returns = core_algos.compute_gae_advantage_return(
        rewards, given["values"], mask, chosen["gamma"], chosen["lambda"]
    )
    new_log_probs = given["new_log_probs"].requires_grad_()
    policy_loss, clipped_share, _, dual_clipped = core_algos.compute_policy_loss(
        given["log_probs"], new_log_probs, advantages, mask, cliprange=chosen["clip"], clip_ratio_c=1e9
    )
    assert dual_clipped == 0  # a bound of verl's own beyond PPO's: switched off by the last argument
    new_values = given["new_values"].requires_grad_()
    value_loss, _ = core_algos.compute_value_loss(new_values, returns, given["values"], mask, chosen["value_clip"])
    (policy_loss + value_loss).backward()
    return {
        "rewards": rewards,
        "whitened advantages": advantages * mask,
        "returns": returns * mask,
        "policy loss": policy_loss.detach(),
        "clipped share": clipped_share.detach(),
        "value loss": value_loss.detach(),
        "gradient of log-probabilities": new_log_probs.grad,
        "gradient of values": new_values.grad,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
