"""How vectors of residues are scaled, by those of the training sequences.

Shape suffixes: U distinct sequences, T residues of some of them, D width of a vector.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from train.dataset import Matrix, residue_blocks

_SEQUENCES = 1024
"""Training sequences whose residues are looked at, evenly spaced among the distinct ones.

They have 200,000 residues and more, by which a deviation is known to some thousandths: all of a large store would take
as long as an epoch.
"""
_ROWS = 512
"""Residues at a time in float64; larger pieces of ever other sizes tore the allocator's memory up (400 MB of holes)."""
_CONSTANT = 1e-12
"""A variance below this share of the largest squared mean is rounding: the column carries nothing."""


class ResidueScale(nn.Module):
    """Mean and inverse deviation of each column over residues, float32; the latter is 0 where a column is constant."""

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(dim))
        self.register_buffer("scale_D", torch.ones(dim))

    def fit(self, matrix: Matrix, used_U: npt.NDArray[np.int64]) -> "ResidueScale":
        """Learn from the residues of training sequences, at most 1,024 of them, in one pass and some blocks of memory.

        Args:
            matrix: Distinct sequences.
            used_U: Rows of those in training, each once.
        """
        some = used_U[np.linspace(0, len(used_U) - 1, min(len(used_U), _SEQUENCES)).astype(np.int64)]
        total, mean_D = 0, torch.zeros(matrix.dim, dtype=torch.float64)
        square_D = torch.zeros_like(mean_D)
        blocks = (torch.from_numpy(matrix.gather_residues(index_B)) for index_B in residue_blocks(matrix, some))
        for vector_TD in (part_TD.double() for block_TD in blocks for part_TD in block_TD.split(_ROWS)):
            count, block_D = len(vector_TD), vector_TD.mean(dim=0)
            apart_D = block_D - mean_D  # two sets join as Chan, Golub and LeVeque (1979) say
            square_D += (vector_TD - block_D).square_().sum(dim=0) + apart_D**2 * (total * count / (total + count))
            mean_D += apart_D * (count / (total + count))
            total += count
        variance_D = square_D / max(total, 1)
        told_D = variance_D > _CONSTANT * float((mean_D**2).max())
        self.mean_D.copy_(mean_D)
        self.scale_D.copy_(torch.where(told_D, variance_D.rsqrt(), torch.zeros_like(variance_D)))
        return self
