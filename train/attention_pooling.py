"""Attention pooling: what learned queries find among the vectors of a sequence's residues.

Shape suffixes: B pairs, U distinct sequences, S of them in a run of equally long ones, L residues of each, T of all, Q
queries, D width of a residue's vector, K of a prepared mean, F of both side by side.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.residue_scale import ResidueScale


@dataclass(frozen=True, slots=True, eq=False)
class Residues:
    """The residues of some distinct sequences, and which rows have which of these."""

    vector_TD: Tensor
    """Raw vectors of residues, float16, sequence after sequence."""
    runs: tuple[tuple[int, int], ...]
    """Sequences in each run of equally long ones, and residues of each."""
    mean_UK: Tensor
    """Prepared mean of each sequence, in the dtype of the weights."""
    place_B: Tensor
    """Which of the sequences each row has, int64."""
    scale: ResidueScale

    def which(self) -> Tensor:
        """Give 1 where a row has the sequence and 0 elsewhere, in the dtype of the weights, [B, U].

        A product with it picks rows; unlike that of an index, its gradient is summed in one order on any device.
        """
        return F.one_hot(self.place_B, len(self.mean_UK)).to(self.mean_UK.dtype)


Side = Tensor | Residues
"""One side of pairs: prepared vectors, or vectors of residues that the network pools."""


class AttentionPooling(nn.Module):
    """Lays beside the mean of a sequence, for each query, its residues averaged by the softmax of their scores.

    A score is the query times the residue over the root of the width; the residues' columns are divided by their
    deviation. All of it is computed in float32, since neighbours such as point mutants differ in the fourth digit.
    """

    def __init__(self, dim: int, queries: int) -> None:
        super().__init__()
        self.width = queries * dim
        """What it lays beside the mean."""
        self.query_QD = nn.Parameter(torch.randn(queries, dim))

    def forward(self, residues: Residues) -> Tensor:
        """Pool each distinct sequence, [U, F]: its prepared mean, then what each query found."""
        scale = residues.scale
        # the scale goes into the queries, and the mean of all residues drops out of a softmax: no pass over residues
        query_DQ = (self.query_QD.float() * scale.scale_D / math.sqrt(self.query_QD.shape[1])).t()
        pooled, start = [], 0
        for count, length in residues.runs:
            end = start + count * length
            vector_SLD = residues.vector_TD[start:end].view(count, length, -1).float()
            weight_SLQ = torch.softmax(vector_SLD @ query_DQ, dim=1)
            pooled.append(weight_SLQ.mT @ vector_SLD)
            start = end
        pooled_UQD = (torch.cat(pooled) - scale.mean_D) * scale.scale_D
        mean_UK = residues.mean_UK
        return torch.cat([mean_UK, pooled_UQD.flatten(1).to(mean_UK.dtype)], dim=1)


def rows_of(side: Side, pooling: AttentionPooling | None) -> Tensor:
    """Give prepared vectors as they are, and residues pooled, for each row, [B, F]."""
    if isinstance(side, Residues):
        assert pooling is not None
        rows_BF: Tensor = side.which() @ pooling(side)
        return rows_BF
    return side
