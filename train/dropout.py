"""Dropout whose masks cost little on the CPU, where a random number for each unit takes longer than a matrix product.

Shape suffixes: B batch, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16
_UNITS_PER_DRAW = 4


class Dropout(nn.Module):
    """Zeroes a share of the units in training and scales the others, so that their mean stays.

    On the CPU the share is rounded to a multiple of 2^-16 and each random 64-bit number serves four units.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self._dropped = round(share * _LEVELS)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Drop units of [B, D], same shape and dtype out; the random numbers are those of torch's global state."""
        if not self.training or self._dropped == 0:
            return x_BD
        if x_BD.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x_BD, self.share)
        draws = torch.empty(-(-x_BD.numel() // _UNITS_PER_DRAW), dtype=torch.int64).random_(-(1 << 63), None)
        level_BD = draws.view(torch.int16)[: x_BD.numel()].view(x_BD.shape)
        kept_BD = (level_BD >= self._dropped - _LEVELS // 2).to(x_BD.dtype)
        return x_BD * kept_BD.mul_(_LEVELS / (_LEVELS - self._dropped))
