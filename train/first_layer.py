"""The layer that reads a pair's vectors.

Shape suffixes: B batch, U distinct antigens, D width of a prepared vector, K of a half, H of the layer.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.config import Head
from train.heads import Concat, make_join


class FirstLayer(nn.Module):
    """Two halves, each linear in one vector of a pair and so computed once per distinct vector, and what joins them.

    Weights begin as those of one linear layer over both vectors, so products are small beside sums, and grow: halves
    that began with variance 1 learnt slower (benchmarks/NOTES.md).
    """

    antigen_bias: nn.Parameter | None

    def __init__(self, antibody_dim: int, antigen_dim: int, width: int, head: Head) -> None:
        super().__init__()
        self.join = make_join(head, width)
        whole = nn.Linear(antibody_dim + antigen_dim, self.join.parts * width)
        antibody_KD, antigen_KD = whole.weight.detach().split([antibody_dim, antigen_dim], dim=1)
        self.antibody = nn.Parameter(antibody_KD.clone())
        self.antigen = nn.Parameter(antigen_KD.clone())
        self.bias = nn.Parameter(whole.bias.detach().clone())
        self.adds = isinstance(self.join, Concat)
        self.antigen_bias = None if self.adds else nn.Parameter(torch.zeros_like(self.bias))

    def forward(self, antibody_BD: Tensor, antigen_UD: Tensor, which_BU: Tensor | None = None) -> Tensor:
        """Map pairs to [B, H].

        Args:
            antibody_BD: Antibody vector of each pair.
            antigen_UD: Antigen vector of each pair (U = B), or of each distinct antigen.
            which_BU: For distinct antigens: 1 where the pair has the antigen, 0 elsewhere.
        """
        antibody_BK = self.antibody_half(antibody_BD)
        if self.adds and which_BU is None:
            return torch.addmm(antibody_BK, antigen_UD, self.antigen.t())
        antigen_UK = self.antigen_half(antigen_UD)
        if self.adds and which_BU is not None:
            return torch.addmm(antibody_BK, which_BU, antigen_UK)
        sum_BH: Tensor = self.join(antibody_BK, antigen_UK if which_BU is None else which_BU @ antigen_UK)
        return sum_BH

    def antibody_half(self, antibody_BD: Tensor) -> Tensor:
        """Map antibodies to what the join takes, [B, K]."""
        return F.linear(antibody_BD, self.antibody, self.bias)

    def antigen_half(self, antigen_UD: Tensor) -> Tensor:
        """Map antigens to what the join takes, [U, K]."""
        return F.linear(antigen_UD, self.antigen, self.antigen_bias)
