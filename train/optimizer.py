"""AdamW on float32 weights that lie end to end in one tensor, and the copy of them that training computes with.

One tensor is cast, clipped and saved in one pass each, into memory that is there already. Autocast allocates
anew what it casts: on a CPU the page faults of that cost as much as all matrix products (benchmarks/NOTES.md).

Shape suffixes: P all weights, matrices first; K networks side by side.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.profiler import record_function

from train.adamw import AdamW
from train.errors import TrainError
from train.kernel import Kernel
from train.regressor import Network

_ALIGNED = 64
"""Weights begin at multiples of this many numbers, which kernels can load whole in either precision."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the weights of a network, [P], or of networks side by side, [K, P], lie, and what belongs to them."""

    weight_P: torch.Tensor
    """float32."""
    gradient_P: torch.Tensor
    """float32; bf16 where the kernel reads it."""
    working_P: torch.Tensor
    """What losses are computed with: the weights themselves, or their copy in bf16."""

    def each(self) -> list["Rows"]:
        """Take networks side by side apart."""
        columns = (self.weight_P, self.gradient_P, self.working_P)
        return [Rows(*row) for row in zip(*columns, strict=True)]


class Layout:
    """The place of every weight of a network: matrices first, each at a multiple of 64 numbers."""

    def __init__(self, network: nn.Module) -> None:
        named = sorted(network.named_parameters(), key=lambda item: item[1].ndim < 2)
        self.shapes = {name: weight.shape for name, weight in named}
        self.spans, self.matrices, self.size = {}, 0, 0
        for name, weight in named:
            self.spans[name] = slice(self.size, self.size + weight.numel())
            self.size += -(-weight.numel() // _ALIGNED) * _ALIGNED
            if weight.ndim >= 2:
                self.matrices = self.size

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Show [P], or [K, P] of K networks side by side, as weights by name, [*shape] or [K, *shape]."""
        return {name: flat[..., span].unflatten(-1, self.shapes[name]) for name, span in self.spans.items()}

    def rows(self, device: torch.device, *, working: torch.dtype, gradient: torch.dtype, networks: int) -> Rows:
        """Take memory for so many networks side by side, zeros."""
        weight_KP = torch.zeros(networks, self.size, device=device)
        gradient_KP = torch.zeros_like(weight_KP, dtype=gradient)
        return Rows(weight_KP, gradient_KP, weight_KP if working == torch.float32 else weight_KP.to(working))


class Optimizer:
    """Steps a network; `working` is what computes losses: the network itself, or its copy in bf16."""

    def __init__(self, network: Network, *, weight_decay: float, bf16: bool, kernel: Kernel | None = None) -> None:
        """Lay the network's weights end to end; from then on they change with every step.

        Args:
            network: On its device, float32.
            weight_decay: Of matrices; biases and norms are left alone.
            bf16: Whether losses are computed in bf16.
            kernel: Does the steps in place of torch, from gradients in bf16, each of one batch.
        """
        self.layout = Layout(network)
        self._network = network
        self._kernel = kernel
        self._is_stale = True
        self.working = copy.deepcopy(network).bfloat16() if bf16 else network
        self._dtypes = {
            "working": torch.bfloat16 if bf16 else torch.float32,
            "gradient": torch.float32 if kernel is None else torch.bfloat16,
        }
        rows = self.room(1).each()[0]
        matrices, others = slice(self.layout.matrices), slice(self.layout.matrices, self.layout.size)
        decays = ((matrices, weight_decay), (others, 0.0))
        self._parts = [(cut, AdamW(rows.weight_P[cut], weight_decay=decay)) for cut, decay in decays]
        self.lie_in(rows)

    def room(self, networks: int) -> Rows:
        """Take memory for so many networks like this one side by side, zeros."""
        return self.layout.rows(self._network.head.weight.device, **self._dtypes, networks=networks)

    @torch.no_grad()
    def lie_in(self, rows: Rows) -> None:
        """Move the weights, and what belongs to them, to other memory."""
        self._rows = rows
        places = (rows.weight_P, rows.gradient_P, rows.working_P)
        weights, self.gradients, self.weights = (self.layout.views(place_P) for place_P in places)
        for name, weight in self._network.named_parameters():
            weights[name].copy_(weight)
            weight.data = weights[name]
        if self.working is not self._network:
            for name, weight in self.working.named_parameters():
                weight.data = self.weights[name]
            rows.working_P.copy_(rows.weight_P)  # a step may have begun
        self._working = dict(self.working.named_parameters())

    def begin_step(self) -> None:
        """Let `working` compute with the weights as they are now."""
        if self._is_stale and self.working is not self._network:
            self._rows.working_P.copy_(self._rows.weight_P)
        self._is_stale = self._kernel is None  # the kernel's steps bring it up to date

    @torch.no_grad()
    def take_gradients(self, *, add: bool) -> None:
        """Move the gradients of `working` into the float32 gradient, or add them to what is there."""
        move = torch._foreach_add_ if add else torch._foreach_copy_
        move([self.gradients[name] for name in self._working], list(map(_gradient_of, self._working.values())))
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients of `working`."""
        for weight in self._working.values():
            weight.grad = None

    @torch.no_grad()
    def step(self, rate: float, *, clip: float) -> None:
        """Shorten the gradient to the norm `clip` where it is longer, and step at this learning rate."""
        with record_function("optimizer step"):
            if self._kernel is None:
                divisor = (torch.linalg.vector_norm(self._rows.gradient_P) / clip).clamp_(min=1)
                for cut, part in self._parts:
                    part.step(self._rows.weight_P[cut], self._rows.gradient_P[cut], rate=rate, divisor=divisor)
            else:
                share = 1 / max(self._kernel.norm(self._rows.gradient_P) / clip, 1.0)
                for cut, part in self._parts:
                    places = (self._rows.weight_P[cut], self._rows.gradient_P[cut], self._rows.working_P[cut])
                    self._kernel.adamw(*places, of=part, rate=rate, share=share)

    def state_dict(self) -> dict[str, Any]:
        """Give the optimizer's own state, live; the weights are the network's."""
        return {"parts": [part.state() for _, part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state.

        Raises:
            TrainError: An earlier version of bindcache saved it.
        """
        if "parts" not in state:
            raise TrainError(
                "The run was begun by an earlier version of bindcache, whose checkpoints hold other names, and cannot "
                "be gone on with; begin a new one: set train.run to another folder."
            )
        for (_, part), kept in zip(self._parts, state["parts"], strict=True):
            part.restore(kept)
        self._is_stale = True


def _gradient_of(weight: nn.Parameter) -> torch.Tensor:
    assert weight.grad is not None, "every weight takes part in every loss"
    return weight.grad
