"""The passes of a training step around its matrix products, for bf16 on this machine's CPU, called from torch.

Shape suffixes: B batch, D width of a layer, P weights.
"""

import ctypes
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from embed.native import load_native
from train.adamw import BETAS, EPS, AdamW

_SOURCE = Path(__file__).with_name("kernel.cpp")


@dataclass(frozen=True, slots=True)
class Activation:
    """Memory for what LayerNorm, GELU and dropout make of a layer's sums, and for the way back; bf16."""

    sum_BD: Tensor
    """Input, without the linear layer's bias."""
    y_BD: Tensor
    """Output."""
    slope_BD: Tensor
    """Derivative of the output by that of LayerNorm."""
    moments_B2: Tensor
    """Mean and 1 / deviation of each row, float32."""
    gradient_BD: Tensor
    """Of the output, then of the input."""

    @classmethod
    def of(cls, rows: int, width: int) -> "Activation":
        """Take memory for so many rows of this width."""
        sum_BD, y_BD, slope_BD, gradient_BD = torch.empty(4, rows, width, dtype=torch.bfloat16)
        return cls(sum_BD, y_BD, slope_BD, torch.empty(rows, 2), gradient_BD)


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """bf16 [D]: the linear layer's bias, scale and shift of LayerNorm; or their gradients."""

    bias_D: Tensor
    scale_D: Tensor
    shift_D: Tensor


class Kernel:
    """LayerNorm, GELU and dropout in one pass and their gradient in another; the head; a norm; AdamW in one pass.

    It computes what torch does in `Network` and `AdamW`, and rounds to bf16 less often.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer: Any = ctypes.c_void_p
        long, number, real = ctypes.c_long, ctypes.c_int, ctypes.c_float
        self._activate, self._activate_back = library.bindcache_activate, library.bindcache_activate_back
        self._activate.argtypes = [*[pointer] * 7, long, long, real, ctypes.c_uint64, number, number]
        self._activate_back.argtypes = [*[pointer] * 9, long, long, number]
        self._head = library.bindcache_head
        self._head.argtypes, self._head.restype = [*[pointer] * 8, long, long, real, number], real
        self._squares, self._adamw = library.bindcache_squares, library.bindcache_adamw
        self._squares.argtypes, self._squares.restype = [pointer, long, number], ctypes.c_double
        self._adamw.argtypes = [*[pointer] * 5, long, *[real] * 8, number]
        self._activate.restype = self._activate_back.restype = self._adamw.restype = None

    def activate(self, layer: Activation, weights: LayerWeights, *, least: float, first: int, dropped: int) -> None:
        """Fill the output of `layer` and what the way back needs, from its sums.

        Args:
            layer: What to compute.
            weights: Its weights.
            least: Added to the variance.
            first: Where the dropout's counter begins (`dropout.first_of`).
            dropped: Share of the units that is dropped, in 2^-16.
        """
        self._activate(
            *_pointers(layer.sum_BD, weights.bias_D, weights.scale_D, weights.shift_D),
            *_pointers(layer.y_BD, layer.slope_BD, layer.moments_B2),
            *layer.sum_BD.shape,
            least,
            first & (1 << 64) - 1,
            dropped,
            torch.get_num_threads(),
        )

    def activate_back(self, layer: Activation, weights: LayerWeights, gradients: LayerWeights) -> None:
        """Turn the gradient of a layer's output into that of its sums, and give that of its weights."""
        self._activate_back(
            *_pointers(layer.gradient_BD, layer.slope_BD, layer.sum_BD, layer.moments_B2),
            *_pointers(weights.bias_D, weights.scale_D),
            *_pointers(gradients.bias_D, gradients.scale_D, gradients.shift_D),
            *layer.sum_BD.shape,
            torch.get_num_threads(),
        )

    def head(
        self,
        layer: Activation,
        weights: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
        *,
        target_B: Tensor,
        weight_B: Tensor,
        pairs: int,
        loss: Literal["squared", "huber"],
    ) -> Tensor:
        """Sum the losses of a batch, float32 [], and give the gradients of the last layer's output and of the head.

        Args:
            layer: The last one.
            weights: Weight and bias of the head, bf16.
            gradients: Of these, bf16.
            target_B: float32, contiguous.
            weight_B: Of each pair, float32, contiguous.
            pairs: What the gradients are divided by.
            loss: As `loss.pair_loss` knows it.
        """
        places = _pointers(layer.y_BD, *weights, target_B, weight_B, layer.gradient_BD, *gradients)
        return torch.tensor(self._head(*places, *layer.y_BD.shape, pairs, loss == "huber"))

    def norm(self, x_P: Tensor) -> float:
        """Give the Euclidean norm of bf16 numbers."""
        squares: float = self._squares(x_P.data_ptr(), x_P.numel(), torch.get_num_threads())
        return math.sqrt(squares)

    def adamw(
        self,
        weight_P: Tensor,
        gradient_P: Tensor,
        working_P: Tensor,
        *,
        of: AdamW,
        rate: float,
        share: float,
    ) -> None:
        """Do a step of AdamW, and bring the working copy up to date.

        Args:
            weight_P: float32.
            gradient_P: bf16.
            working_P: bf16.
            of: What is kept of these weights.
            rate: Learning rate.
            share: Factor of the gradient.
        """
        of.steps += 1
        steps = of.steps.item()
        self._adamw(
            *_pointers(weight_P, gradient_P, of.average_P, of.square_P, working_P),
            weight_P.numel(),
            share,
            rate,
            of.weight_decay,
            *BETAS,
            EPS,
            *(1 - beta**steps for beta in BETAS),
            torch.get_num_threads(),
        )


@functools.cache
def find_kernel() -> tuple[Kernel | None, str]:
    """Build or find the kernel of this machine; without one, tell why."""
    library, why = load_native([_SOURCE])
    return (None if library is None else Kernel(library)), why


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
