"""AdamW on float32 weights that lie end to end in one tensor, and the copy of them that training computes with.

One tensor is cast, clipped and saved in one pass each, into memory that is there already. Autocast allocates
anew what it casts: on a CPU the page faults of that cost as much as all matrix products (benchmarks/NOTES.md).

Shape suffixes: P all weights, matrices first.
"""

import copy
from typing import Any

import torch
from torch import nn

_ALIGNED = 64
"""Weights begin at multiples of this many numbers, which kernels can load whole in either precision."""


class Optimizer:
    """Steps a network; `working` is what computes losses: the network itself, or its copy in bf16."""

    def __init__(self, network: nn.Module, *, weight_decay: float, bf16: bool) -> None:
        """Lay the network's weights end to end; from then on they change with every step.

        Args:
            network: On its device, float32.
            weight_decay: Of matrices; biases and norms are left alone.
            bf16: Whether losses are computed in bf16.
        """
        weights = _ordered(network)
        spans, matrices, total = _lay_out(weights)
        self._weight_P = torch.zeros(total, device=weights[0].device)
        self._working_P = self._weight_P.bfloat16() if bf16 else self._weight_P
        self._gradient_P = torch.zeros_like(self._weight_P)
        self.working = copy.deepcopy(network).bfloat16() if bf16 else network
        self._working = _ordered(self.working)
        for weight, working, span in zip(weights, self._working, spans, strict=True):
            self._weight_P[span].copy_(weight.detach().flatten())
            weight.data = self._weight_P[span].view(weight.shape)
            working.data = self._working_P[span].view(weight.shape)
        self._gradients = [
            self._gradient_P[span].view(weight.shape) for weight, span in zip(weights, spans, strict=True)
        ]
        self._parameters = [self._part(slice(matrices)), self._part(slice(matrices, total))]
        decays = zip(self._parameters, (weight_decay, 0.0), strict=True)
        groups = [{"params": [part_P], "weight_decay": decay} for part_P, decay in decays]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, fused=True)
        self._adamw.step()  # no step, of nothing: but now there is all that a checkpoint copies
        for state in self._adamw.state.values():
            state["step"].zero_()

    def begin_step(self) -> None:
        """Let `working` compute with the weights as they are now."""
        if self._working_P is not self._weight_P:
            self._working_P.copy_(self._weight_P)

    @torch.no_grad()
    def take_gradients(self, *, add: bool) -> None:
        """Move the gradients of `working` into the float32 gradient, or add them to what is there."""
        move = torch._foreach_add_ if add else torch._foreach_copy_
        move(self._gradients, [_gradient_of(weight) for weight in self._working])
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients of `working`."""
        for weight in self._working:
            weight.grad = None

    def step(self, rate: float, *, clip: float) -> None:
        """Shorten the gradient to the norm `clip` where it is longer, and step at this learning rate."""
        nn.utils.clip_grad_norm_(self._parameters, clip)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """Give the optimizer's own state, live; the weights are the network's."""
        return self._adamw.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self._adamw.load_state_dict(state)

    def _part(self, span: slice) -> nn.Parameter:
        part_P = nn.Parameter(self._weight_P[span])
        part_P.grad = self._gradient_P[span]
        return part_P


def _ordered(network: nn.Module) -> list[nn.Parameter]:
    return sorted(network.parameters(), key=lambda weight: weight.ndim < 2)


def _gradient_of(weight: nn.Parameter) -> torch.Tensor:
    assert weight.grad is not None, "every weight takes part in every loss"
    return weight.grad


def _lay_out(weights: list[nn.Parameter]) -> tuple[list[slice], int, int]:
    """Find each weight's place; the other values are the end of the matrices and of all weights."""
    spans, ends = [], [0, 0]
    for weight in weights:
        start = ends[-1]
        spans.append(slice(start, start + weight.numel()))
        ends.append(start + -(-weight.numel() // _ALIGNED) * _ALIGNED)
    matrices = sum(weight.ndim > 1 for weight in weights)
    return spans, ends[1 + matrices], ends[-1]
