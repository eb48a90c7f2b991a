"""The network: prepared vectors of a pair in, pKd out.

Shape suffixes: B batch, Da and Dg widths of the antibody and antigen vector, D either of them.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from train.features import Preparation

Checkpointing = Literal["none", "wide", "all"]


class Prepare(nn.Module):
    """Subtracts the training mean and applies the preparing map, in float32 whatever autocast says.

    Neighbours such as point mutants differ in the fourth digit: bf16 would drown them before the subtraction.
    """

    mean_D: Tensor
    map_DD: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(dim))
        self.register_buffer("map_DD", torch.eye(dim))

    def fit(self, preparation: Preparation) -> None:
        """Take the statistics over."""
        self.mean_D.copy_(torch.from_numpy(preparation.mean_D))
        self.map_DD.copy_(torch.from_numpy(preparation.map_DD))

    def forward(self, vector_BD: Tensor) -> Tensor:
        """Prepare float32 [B, D] vectors, same shape and dtype out."""
        with torch.autocast(vector_BD.device.type, enabled=False):
            return (vector_BD - self.mean_D) @ self.map_DD


class Block(nn.Module):
    """Linear, LayerNorm, GELU, then dropout.

    Dropout stays outside the recomputed core: on CUDA the random state of a recomputed dropout is private to
    the compiled graph, and a resumed run would draw other masks.
    """

    def __init__(self, width_in: int, width_out: int, *, dropout: float, recompute: bool) -> None:
        super().__init__()
        self.core = nn.Sequential(nn.Linear(width_in, width_out), nn.LayerNorm(width_out), nn.GELU())
        self.dropout = nn.Dropout(dropout)
        self.recompute = recompute

    def forward(self, x_BD: Tensor) -> Tensor:
        """Map [B, width_in] to [B, width_out]."""
        if self.recompute and self.training:
            core_BD = checkpoint(self.core, x_BD, use_reentrant=False, preserve_rng_state=False)
        else:
            core_BD = self.core(x_BD)
        return self.dropout(core_BD)  # type: ignore[no-any-return]


class Regressor(nn.Module):
    """Predicts the pKd of pairs from their vectors; the statistics of the training split are its buffers."""

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        antibody_dim: int,
        antigen_dim: int,
        *,
        widths: Sequence[int],
        dropout: float = 0.0,
        checkpointing: Checkpointing = "none",
    ) -> None:
        super().__init__()
        self.dims = (antibody_dim, antigen_dim)
        self.antibody = Prepare(antibody_dim)
        self.antigen = Prepare(antigen_dim)
        self.register_buffer("target_mean", torch.zeros(()))
        self.register_buffer("target_std", torch.ones(()))
        edges = [antibody_dim + antigen_dim, *widths]
        recomputed_from = {"none": max(widths) + 1, "wide": max(widths), "all": 0}[checkpointing]
        self.blocks = nn.Sequential(
            *(
                Block(before, after, dropout=dropout, recompute=after >= recomputed_from)
                for before, after in itertools.pairwise(edges)
            )
        )
        self.head = nn.Linear(edges[-1], 1)

    def fit(self, antibody: Preparation, antigen: Preparation, *, target_mean: float, target_std: float) -> None:
        """Take over the statistics of the training split (pKd for the target)."""
        self.antibody.fit(antibody)
        self.antigen.fit(antigen)
        self.target_mean.fill_(target_mean)
        self.target_std.fill_(target_std)

    def forward(self, antibody_BDa: Tensor, antigen_BDg: Tensor) -> Tensor:
        """Predict float32 [B] pKd from float32 [B, Da] and [B, Dg] vectors."""
        x_BD = torch.cat([self.antibody(antibody_BDa), self.antigen(antigen_BDg)], dim=1)
        score_B: Tensor = self.head(self.blocks(x_BD)).squeeze(1).float()
        return score_B * self.target_std + self.target_mean
