"""AdamW's step on one tensor of float32 weights, and what it keeps of them.

`torch.optim.AdamW` does the same, but its base class imports the whole of `torch.compile` when it is made: two seconds
of a processor for every training, a sweep's workers included. The function that it calls in the end does not.

Shape suffix: P weights.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
EPS = 1e-8
"""As Loshchilov and Hutter (https://arxiv.org/abs/1711.05101) and torch have them."""


class AdamW:
    """The running averages of one tensor's gradients, and the steps done."""

    def __init__(self, weight_P: Tensor, *, weight_decay: float) -> None:
        """Take memory for the averages of weights in float32; all that a checkpoint copies is there from now on."""
        self.weight_decay = weight_decay
        self.steps = torch.zeros((), device=weight_P.device)
        self.average_P, self.square_P = torch.zeros_like(weight_P), torch.zeros_like(weight_P)

    def step(self, weight_P: Tensor, gradient_P: Tensor, *, rate: float, divisor: Tensor) -> None:
        """Step the weights in place at this learning rate; the gradient, float32, is divided by `divisor`, []."""
        adamw(
            [weight_P],
            [gradient_P],
            [self.average_P],
            [self.square_P],
            [],
            [self.steps],
            fused=True,
            grad_scale=divisor,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=self.weight_decay,
            eps=EPS,
            maximize=False,
        )

    def state(self) -> dict[str, Any]:
        """Give what is kept, live."""
        return {"steps": self.steps, "average": self.average_P, "square": self.square_P}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what was kept."""
        for name, kept in self.state().items():
            kept.copy_(state[name])
