"""AdamW for bf16 weights with float32 master copies.

bf16 keeps 8 bits of a number: an update of 1e-6 on a weight of 0.1 is lost in rounding. The optimizer's arithmetic
therefore runs on float32 copies, which are rounded into the model after every step. Forward, backward and sampling
read half the bytes, and on CPUs and GPUs with bf16 units run about twice as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class MasterWeightAdamW(torch.optim.AdamW):
    """AdamW over float32 copies of the parameters given; ``step`` writes the rounded copies back.

    The state (and so a checkpoint) holds the copies; after ``load_state_dict`` they are taken from there.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        self.model_parameters = [parameter for parameter in parameters if parameter.requires_grad]
        masters = [torch.nn.Parameter(parameter.detach().float().clone()) for parameter in self.model_parameters]
        super().__init__(masters, lr=learning_rate, weight_decay=weight_decay)

    @property
    def masters(self) -> list[torch.nn.Parameter]:
        """The float32 copies, in the order of the model's parameters."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for parameter, master in zip(self.model_parameters, self.masters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None  # both at once for all parameters would be the peak of the whole training
        loss: float | None = super().step(closure)
        for parameter, master in zip(self.model_parameters, self.masters, strict=True):
            parameter.copy_(master)
            master.grad = None
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.model_parameters:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "masters": [master.detach() for master in self.masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        copies = state.pop("masters")
        super().load_state_dict(state)
        for master, copy in zip(self.masters, copies, strict=True):
            master.copy_(copy)
