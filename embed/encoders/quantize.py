"""INT8 linear layers: int8 weights, activations as one or two int8 terms, exact integer products, float32 around them.

A usual INT8 activation loses more than a point mutation changes. Splitting it into a coarse and a fine int8 term
keeps 15 bits of it for a second integer product, and what error is left is the weights', the same for every sequence.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from embed.encoders.kernel import Activation, Packed, find_kernel

# M tokens, K inputs, N outputs

_LEVELS = 127
_FINE = 254
"""The fine term resolves a coarse step, which is at most half a level off, in 254 parts: |254 * 0.5| = 127."""

_EXACT = 2**24 // _LEVELS**2
"""Products of two int8 numbers whose sum float32 holds exactly, in whatever order they are added."""

_CUDA_ROWS = 32
_CUDA_COLUMNS = 8
"""What `torch._int_mm` demands on CUDA: rows above 16 (padded to 32), inputs and outputs in multiples of 8."""


class Int8Linear(nn.Module):
    """Frozen linear layers that read the same input, as one INT8 product; independent of the other rows in a batch.

    With `s = max|x| / 127` per token, `q1 = round(x / s)` and `q2 = round(254 (x / s - q1))`:
    `y = s * s_w * (q1 Wq + q2 Wq / 254) + b`, in float32; with one term, without `q2`.
    """

    def __init__(
        self, linears: Sequence[nn.Linear], *, terms: int, device: torch.device, activation: Activation = "none"
    ) -> None:
        super().__init__()
        on_cuda = device.type == "cuda"
        self._kernel = None if on_cuda else find_kernel()[0]
        device = linears[0].weight.device if linears[0].weight.is_meta else device
        weight_NK = torch.cat([linear.weight.detach().to(device, torch.float32) for linear in linears])
        scale_N = _nonzero(weight_NK.abs().amax(1)) / _LEVELS
        quantised_NK = torch.round(weight_NK / scale_N[:, None]).to(torch.int8)
        bias_N = None
        if linears[0].bias is not None:
            bias_N = torch.cat([linear.bias.detach().to(device, torch.float32) for linear in linears])
        self.out_features, self.in_features = quantised_NK.shape
        self._terms, self._activation = terms, activation
        if self._kernel is not None:
            laid_out = self._kernel.pack(quantised_NK)
        else:
            columns = _CUDA_COLUMNS if on_cuda else 1
            padding = (0, -self.in_features % columns, 0, -self.out_features % columns)
            laid_out = nn.functional.pad(quantised_NK, padding).contiguous()
        self.weight: Tensor
        self.scale: Tensor
        self.bias: Tensor | None
        self.register_buffer("weight", laid_out)
        self.register_buffer("scale", scale_N)
        self.register_buffer("bias", bias_N)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Multiply, activate, and add the residual.

        Args:
            x: float32 `[..., K]`.
            residual: float32 `[..., N]`.

        Returns:
            float32 `[..., N]`.
        """
        x_MK = x.reshape(-1, self.in_features)
        residual_MN = None if residual is None else residual.reshape(-1, self.out_features)
        if self._kernel is not None:
            layer = Packed(self.weight, self.scale, self.bias, self.in_features, self.out_features)
            y_MN = self._kernel.linear(x_MK, layer, self._terms, self._activation, residual_MN)
        else:
            y_MN = self._multiply(x_MK, residual_MN)
        return y_MN.view(*x.shape[:-1], self.out_features)

    def _multiply(self, x_MK: Tensor, residual_MN: Tensor | None) -> Tensor:
        coarse_MK, fine_MK, scale_M1 = two_terms(x_MK)
        y_MN = self._product(coarse_MK).float()
        if self._terms == 2:
            y_MN = y_MN + self._product(fine_MK) / _FINE
        y_MN = y_MN * scale_M1 * self.scale
        if self.bias is not None:
            y_MN = y_MN + self.bias
        if self._activation != "none":
            y_MN = nn.functional.gelu(y_MN) if self._activation == "gelu" else nn.functional.relu(y_MN)
        return y_MN if residual_MN is None else y_MN + residual_MN

    def _product(self, term_MK: Tensor) -> Tensor:
        rows = term_MK.shape[0]
        if term_MK.is_cuda:
            pad = (0, self.weight.shape[1] - term_MK.shape[1], 0, -rows % _CUDA_ROWS)
            term_MK = nn.functional.pad(term_MK, pad)
            return torch._int_mm(term_MK, self.weight.t())[:rows, : self.out_features]
        # without INT8 instructions float32 is 30 times as fast as torch's integer product (benchmarks/NOTES.md)
        parts = zip(term_MK.split(_EXACT, dim=1), self.weight.split(_EXACT, dim=1), strict=True)
        products = (part_MK.float() @ weight_NK.float().t() for part_MK, weight_NK in parts)
        sum_MN: Tensor = functools.reduce(torch.add, products)
        return sum_MN


def two_terms(x_MK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split activations into a coarse and a fine int8 term.

    Args:
        x_MK: float32.

    Returns:
        coarse and fine, int8 `[M, K]`; scale, float32 `[M, 1]`; x = scale * (coarse + fine / 254) within scale / 508.
    """
    scale_M1 = _nonzero(x_MK.abs().amax(1, keepdim=True)) / _LEVELS
    levels_MK = x_MK / scale_M1
    coarse_MK = levels_MK.round()
    fine_MK = ((levels_MK - coarse_MK) * _FINE).round()
    return coarse_MK.to(torch.int8), fine_MK.to(torch.int8), scale_M1


def _nonzero(largest: Tensor) -> Tensor:
    # an all-zero row or channel gets scale 1, so that it stays zero
    return torch.where(largest > 0, largest, torch.full_like(largest, _LEVELS))
