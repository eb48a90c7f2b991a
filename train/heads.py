"""How what the first layer makes of an antibody and of an antigen becomes one: the ways that a pair's vectors meet.

A half depends on one vector alone, so that it is computed once per distinct vector; whatever reads both is here.

Shape suffixes: B batch, H width of the first layer, K = parts * H of a half.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from train.config import Head


class Join(nn.Module, ABC):
    """Makes the sum of a pair, [B, H], from its two halves, [B, K]."""

    parts = 1
    """Numbers that a half has for each unit."""

    @abstractmethod
    def forward(self, antibody_BK: Tensor, antigen_BK: Tensor) -> Tensor:
        """Join halves, [B, H]."""


class Concat(Join):
    """The sum of both: one linear layer over both vectors end to end."""

    def forward(self, antibody_BK: Tensor, antigen_BK: Tensor) -> Tensor:
        """Join halves, [B, H]."""
        return antibody_BK + antigen_BK


class Bilinear(Join):
    """That sum, and for each unit the product of two projections (low-rank bilinear pooling, Kim et al. 2017)."""

    parts = 2

    def forward(self, antibody_BK: Tensor, antigen_BK: Tensor) -> Tensor:
        """Join halves, [B, H]."""
        (antibody_BH, left_BH), (antigen_BH, right_BH) = antibody_BK.chunk(2, dim=1), antigen_BK.chunk(2, dim=1)
        return torch.addcmul(antibody_BH + antigen_BH, left_BH, right_BH)


class Gated(Join):
    """The sum of both, where each side decides what of the other one passes."""

    parts = 2

    def forward(self, antibody_BK: Tensor, antigen_BK: Tensor) -> Tensor:
        """Join halves, [B, H]."""
        (antibody_BH, opens_BH), (antigen_BH, lets_BH) = antibody_BK.chunk(2, dim=1), antigen_BK.chunk(2, dim=1)
        return antibody_BH * lets_BH.sigmoid() + antigen_BH * opens_BH.sigmoid()


class Difference(Join):
    """A linear layer over both, their distance and their product (pair features, Conneau et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(4 * width, width)

    def forward(self, antibody_BK: Tensor, antigen_BK: Tensor) -> Tensor:
        """Join halves, [B, H]."""
        distance_BK, product_BK = (antibody_BK - antigen_BK).abs(), antibody_BK * antigen_BK
        sum_BH: Tensor = self.mix(torch.cat([antibody_BK, antigen_BK, distance_BK, product_BK], dim=1))
        return sum_BH


def make_join(head: Head, width: int) -> Join:
    """Make what `train.head` names, for a first layer of this width."""
    if head == "difference":
        return Difference(width)
    plain: dict[Head, type[Concat | Bilinear | Gated]] = {"concat": Concat, "bilinear": Bilinear, "gated": Gated}
    return plain[head]()
