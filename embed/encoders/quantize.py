"""Two-term INT8 linear layers: int8 weights, activations as two int8 terms, exact integer products.

A usual INT8 activation loses more than a point mutation changes. Splitting it into a coarse and a fine int8 term
keeps 15 bits of it for a second integer product, and what error is left is the weights', the same for every sequence.
"""

import torch
from torch import nn

# M tokens, K inputs, N outputs

_LEVELS = 127
_FINE = 254
"""The fine term resolves a coarse step, which is at most half a level off, in 254 parts: |254 * 0.5| = 127."""

_CUDA_ROWS = 32
_CUDA_COLUMNS = 8
"""What `torch._int_mm` demands on CUDA: rows above 16 (padded to 32), inputs and outputs in multiples of 8."""


class TwoTermLinear(nn.Module):
    """A frozen linear layer in two-term INT8; independent of the other rows in a batch.

    With `s = max|x| / 127` per token, `q1 = round(x / s)` and `q2 = round(254 (x / s - q1))`:
    `y = s * s_w * (q1 Wq + q2 Wq / 254) + b`, in float32.
    """

    def __init__(self, linear: nn.Linear, device: torch.device) -> None:
        super().__init__()
        weight_NK = linear.weight.detach().to(device, torch.float32)
        scale_N = _nonzero(weight_NK.abs().amax(1)) / _LEVELS
        quantised_NK = torch.round(weight_NK / scale_N[:, None]).to(torch.int8)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        pad_n, pad_k = (
            (-self.out_features % _CUDA_COLUMNS, -self.in_features % _CUDA_COLUMNS) if device.type == "cuda" else (0, 0)
        )
        self.weight: torch.Tensor
        self.scale: torch.Tensor
        self.bias: torch.Tensor | None
        self.register_buffer("weight", nn.functional.pad(quantised_NK, (0, pad_k, 0, pad_n)).contiguous())
        self.register_buffer("scale", scale_N)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().to(device, torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply.

        Args:
            x: float32 `[..., K]`.

        Returns:
            float32 `[..., N]`.
        """
        x_MK = x.reshape(-1, self.in_features)
        coarse_MK, fine_MK, scale_M1 = two_terms(x_MK)
        y_MN = self._product(coarse_MK).float()
        y_MN.add_(self._product(fine_MK), alpha=1 / _FINE)
        y_MN.mul_(scale_M1).mul_(self.scale)
        if self.bias is not None:
            y_MN.add_(self.bias)
        return y_MN.view(*x.shape[:-1], self.out_features)

    def _product(self, term_MK: torch.Tensor) -> torch.Tensor:
        rows = term_MK.shape[0]
        if term_MK.is_cuda:
            pad = (0, self.weight.shape[1] - term_MK.shape[1], 0, -rows % _CUDA_ROWS)
            term_MK = nn.functional.pad(term_MK, pad)
        return torch._int_mm(term_MK, self.weight.t())[:rows, : self.out_features]


def two_terms(x_MK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split activations into a coarse and a fine int8 term.

    Args:
        x_MK: float32.

    Returns:
        coarse and fine, int8 `[M, K]`; scale, float32 `[M, 1]`; x = scale * (coarse + fine / 254) within scale / 508.
    """
    scale_M1 = _nonzero(x_MK.abs().amax(1, keepdim=True)) / _LEVELS
    levels_MK = x_MK / scale_M1
    coarse_MK = levels_MK.round()
    fine_MK = levels_MK.sub_(coarse_MK).mul_(_FINE).round_()
    return coarse_MK.to(torch.int8), fine_MK.to(torch.int8), scale_M1


def quantise_linears(model: nn.Module, device: torch.device) -> None:
    """Replace every linear layer of a model, one by one, so that float weights leave memory as int8 ones come."""
    for name, child in list(model.named_children()):
        if isinstance(child, nn.Linear):
            setattr(model, name, TwoTermLinear(child, device))
        else:
            quantise_linears(child, device)


def _nonzero(largest: torch.Tensor) -> torch.Tensor:
    # an all-zero row or channel gets scale 1, so that it stays zero
    return torch.where(largest > 0, largest, torch.full_like(largest, _LEVELS))
