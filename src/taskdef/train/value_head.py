"""PPO's value function: a linear head on the policy's own hidden states.

A separate value model would double memory and work; the policy's last hidden states already tell much of whether a
response is on its way to a correct answer, and they come with the log-probabilities. The head starts at zero, is
float32, has an optimizer of its own, and is kept in checkpoints only: the tuned model is saved without it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

VALUE_HEAD_FILE = "value_head.safetensors"


class ValueHead(torch.nn.Module):
    """V = mean over the hidden size of weight x normalised state, + bias.

    States are brought to a root mean square of 1, and the mean is taken in place of a sum, so that a step of the
    learning rate on every weight moves a value by about as much, whatever the model's width and scale.
    """

    def __init__(self, hidden_size: int, *, learning_rate: float, into_policy: float, device: torch.device) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(hidden_size, device=device))
        self.bias = torch.nn.Parameter(torch.zeros((), device=device))
        self.into_policy = into_policy
        self.optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """N values of N states (N x hidden size); the states' gradients are ``into_policy`` times the head's."""
        flowing = states if self.into_policy else states.detach()
        normal = torch.nn.functional.rms_norm(flowing.float(), flowing.shape[-1:])
        if self.into_policy:
            normal = self.into_policy * normal + (1 - self.into_policy) * normal.detach()
        values: torch.Tensor = (normal * self.weight).mean(dim=-1) + self.bias
        return values

    def learn(self) -> None:
        """Take the optimizer step of the gradients gathered."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, folder: Path) -> None:
        """Weights and the optimizer's moments beside a checkpoint's other files."""
        tensors = {name: parameter.detach() for name, parameter in self.named_parameters()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in moments.items()}
        save_file(tensors, folder / VALUE_HEAD_FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """What ``save`` left there."""
        tensors = load_file(folder / VALUE_HEAD_FILE, device=str(self.weight.device))
        for name, parameter in self.named_parameters():
            parameter.copy_(tensors.pop(name))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            _, number, name = key.split(".")
            # Adam keeps its count of steps on the CPU, whatever the parameters are on
            moments.setdefault(int(number), {})[name] = tensor.cpu() if name == "step" else tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
