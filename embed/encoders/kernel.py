"""Our kernels for this machine's CPU: INT8 products and attention, called from torch.

Shape suffixes: M rows, K inputs, N outputs, T terms or tokens, S sequences, H heads, D width of a head.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from embed import native

Activation = Literal["none", "relu", "gelu"]

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("int8.cpp", "attention.cpp"))
_NEEDS = "avx512_vnni"
_DEPTH = 4
_PANEL = 64
_OFFSET = 128
_ACTIVATIONS: dict[Activation, int] = {"none": 0, "relu": 1, "gelu": 2}


class Packed(NamedTuple):
    """Weights of a layer as the kernel reads them."""

    weight: Tensor
    """uint8 `[N / 64, K / 4, 64, 4]`, w + 128, padded with w = 0."""
    scale_N: Tensor
    bias_N: Tensor | None
    inputs: int
    outputs: int


class Kernel:
    """INT8 products and float32 attention in which nothing depends on the neighbours of a row or a sequence."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer: Any = ctypes.c_void_p
        long, number = ctypes.c_long, ctypes.c_int
        self._linear, self._attend = library.bindcache_linear, library.bindcache_attend
        self._linear.argtypes = [pointer, long, *[pointer] * 5, long, long, number, number, number]
        strided = [pointer, long, long]
        sizes = [pointer, long, long, long, ctypes.c_float, *[pointer] * 3, long, number]
        self._attend.argtypes = [*strided * 3, pointer, *sizes]
        self._linear.restype = self._attend.restype = None

    def pack(self, quantised_NK: Tensor) -> Tensor:
        """Lay int8 `[N, K]` weights out for the kernel, as `Packed.weight`."""
        outputs, inputs = quantised_NK.shape
        padded_NK = torch.nn.functional.pad(quantised_NK, (0, -inputs % _DEPTH, 0, -outputs % _PANEL))
        raised_NK = (padded_NK.to(torch.int16) + _OFFSET).to(torch.uint8)
        return raised_NK.view(raised_NK.shape[0] // _PANEL, _PANEL, -1, _DEPTH).permute(0, 2, 1, 3).contiguous()

    def linear(
        self, x_MK: Tensor, layer: Packed, terms: int, activation: Activation, residual_MN: Tensor | None
    ) -> Tensor:
        """Compute `activation(x W^T + b) + residual`.

        Args:
            x_MK: float32.
            layer: The weights.
            terms: 1 or 2 int8 terms of each activation.
            activation: Applied to the product with its bias.
            residual_MN: Added last, float32.

        Returns:
            float32 `[M, N]`.
        """
        x_MK = x_MK.contiguous()
        residual_MN = None if residual_MN is None else residual_MN.contiguous()
        rows = x_MK.shape[0]
        y_MN = torch.empty(rows, layer.outputs)
        self._linear(
            x_MK.data_ptr(),
            rows,
            layer.weight.data_ptr(),
            layer.scale_N.data_ptr(),
            None if layer.bias_N is None else layer.bias_N.data_ptr(),
            None if residual_MN is None else residual_MN.data_ptr(),
            y_MN.data_ptr(),
            layer.inputs,
            layer.outputs,
            terms,
            _ACTIVATIONS[activation],
            torch.get_num_threads(),
        )
        return y_MN

    def attend(
        self,
        query_THD: Tensor,
        key_THD: Tensor,
        value_THD: Tensor,
        starts: Tensor,
        scale: float,
        turn_2PD: Tensor | None,
        bias_HE: Tensor | None,
    ) -> Tensor:
        """Attend within each of several sequences that lie end to end.

        Args:
            query_THD: float32, its last dimension contiguous.
            key_THD: Likewise.
            value_THD: Likewise.
            starts: First token of each sequence and the end of the last one, int64 `[S + 1]`.
            scale: Factor of the scores.
            turn_2PD: Cosine and sine by place in a sequence that turn queries and keys, float32.
            bias_HE: Added to the scores by distance, float32: column `E // 2 + key - query`.

        Returns:
            float32 `[T, H, D]`, contiguous.
        """
        y_THD = torch.empty(query_THD.shape)
        _, heads, width = query_THD.shape
        span = 0 if bias_HE is None else bias_HE.shape[1] // 2 + 1
        strided = [
            argument
            for x_THD in (query_THD, key_THD, value_THD)
            for argument in (x_THD.data_ptr(), x_THD.stride(0), x_THD.stride(1))
        ]
        bias = None if bias_HE is None else bias_HE.data_ptr()
        threads = torch.get_num_threads()
        cos, sin = (None, None) if turn_2PD is None else (turn_2PD[0].data_ptr(), turn_2PD[1].data_ptr())
        sizes = (starts.data_ptr(), len(starts) - 1, heads, width, scale, cos, sin, bias, span, threads)
        self._attend(*strided, y_THD.data_ptr(), *sizes)
        return y_THD


def must_build() -> bool:
    """Tell whether this machine can have the kernel and does not have it yet; building takes some seconds."""
    return native.must_build(_SOURCES, needs=_NEEDS)


@functools.cache
def find_kernel() -> tuple[Kernel | None, str]:
    """Build or find the kernel of this machine; without one, tell why."""
    library, why = native.load_native(_SOURCES, needs=_NEEDS)
    return (None if library is None else Kernel(library)), why
