"""The network: prepared vectors of a pair in, pKd out.

Shape suffixes: B batch, U distinct antigens, D width of a vector or of a layer, K of a prepared vector, H of the first
layer.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from train.attention_pooling import AttentionPooling, Residues, Side, rows_of
from train.config import Head
from train.dropout import Draw, Dropout
from train.features import Preparation
from train.first_layer import FirstLayer
from train.residue_scale import ResidueScale

Checkpointing = Literal["none", "wide", "all"]

_ROWS = 128


class Prepare(nn.Module):
    """Subtracts the training mean and applies the preparing map, in float32.

    Neighbours such as point mutants differ in the fourth digit: bf16 would drown them before the subtraction.
    """

    mean_D: Tensor
    map_DK: Tensor

    def __init__(self, dim: int, axes: int | None = None) -> None:
        """Prepare vectors of width `dim` into `axes` numbers, as many unless given."""
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(dim))
        self.register_buffer("map_DK", torch.eye(dim, dim if axes is None else axes))

    def fit(self, preparation: Preparation) -> None:
        """Take the statistics over."""
        self.mean_D.copy_(torch.from_numpy(preparation.mean_D))
        self.map_DK.copy_(torch.from_numpy(preparation.map_DK))

    @property
    def axes(self) -> int:
        """Numbers of a prepared vector."""
        return self.map_DK.shape[1]

    @torch.no_grad()
    def forward(self, vector_BD: Tensor) -> Tensor:
        """Prepare float32 [B, D] vectors into float32 [B, K].

        All products have one shape, so that no bit of a row depends on how many rows are prepared with it.
        """
        centred_BD = F.pad(vector_BD - self.mean_D, (0, 0, 0, -len(vector_BD) % _ROWS))
        prepared_BK = centred_BD.new_empty(len(centred_BD), self.axes)
        for start in range(0, len(centred_BD), _ROWS):
            rows = slice(start, start + _ROWS)
            torch.mm(centred_BD[rows], self.map_DK, out=prepared_BK[rows])
        return prepared_BK[: len(vector_BD)]


class Block(nn.Module):
    """A linear layer, LayerNorm, GELU, then dropout.

    Dropout stays outside the recomputed core: on CUDA the random state of a recomputed dropout is private to
    the compiled graph, and a resumed run would draw other masks.
    """

    def __init__(self, linear: nn.Module, width: int, *, dropout: Dropout, recompute: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.LayerNorm(width)
        self.dropout = dropout
        self.recompute = recompute

    def forward(self, *inputs: Tensor | None) -> Tensor:
        """Map what the linear layer reads to [B, width]."""
        if self.recompute and self.training:
            core_BD = checkpoint(self._core, *inputs, use_reentrant=False, preserve_rng_state=False)
        else:
            core_BD = self._core(*inputs)
        dropped_BD: Tensor = self.dropout(core_BD)
        return dropped_BD

    def activate(self, sum_BD: Tensor) -> Tensor:
        """Apply what follows the linear layer, dropout apart."""
        return F.gelu(self.norm(sum_BD))

    def _core(self, *inputs: Tensor | None) -> Tensor:
        return self.activate(self.linear(*inputs))


class Network(nn.Module):
    """What is trained: prepared vectors in, scores out (pKd in deviations of the training targets from their mean)."""

    def __init__(
        self,
        antibody_dim: int,
        antigen_dim: int,
        *,
        widths: Sequence[int],
        head: Head = "concat",
        dropout: float = 0.0,
        checkpointing: Checkpointing = "none",
        poolings: tuple[AttentionPooling | None, AttentionPooling | None] = (None, None),
    ) -> None:
        """Make it for prepared vectors of these widths, and what poolings lay beside them."""
        super().__init__()
        self.antibody_pooling, self.antigen_pooling = poolings
        antibody_dim, antigen_dim = (
            dim + (pooling.width if pooling else 0)
            for dim, pooling in zip((antibody_dim, antigen_dim), poolings, strict=True)
        )
        recomputed_from = {"none": max(widths) + 1, "wide": max(widths), "all": 0}[checkpointing]
        self.draw = Draw()
        """Which units are dropped next."""
        first = FirstLayer(antibody_dim, antigen_dim, widths[0], head)
        layers = [first, *(nn.Linear(before, after) for before, after in itertools.pairwise(widths))]
        self.blocks = nn.ModuleList(
            Block(layer, width, dropout=Dropout(dropout, self.draw, number), recompute=width >= recomputed_from)
            for number, (layer, width) in enumerate(zip(layers, widths, strict=True))
        )
        self.head = nn.Linear(widths[-1], 1)

    @property
    def first_layer(self) -> FirstLayer:
        """The layer that reads the vectors."""
        layer = self._first_block.linear
        assert isinstance(layer, FirstLayer)
        return layer

    def forward(self, antibody: Side, antigen: Side, which_BU: Tensor | None = None) -> Tensor:
        """Score pairs, float32 [B]; arguments as for the first layer, in the dtype of the weights, or residues."""
        if isinstance(antigen, Residues):
            assert self.antigen_pooling is not None
            antigen_UD, which_BU = self.antigen_pooling(antigen), antigen.which()
        else:
            antigen_UD = antigen
        return self._rest(self.blocks[0](self.antibody_rows(antibody), antigen_UD, which_BU))

    def antibody_rows(self, antibody: Side) -> Tensor:
        """Give what the first layer reads of each antibody: a prepared vector, or residues pooled, [B, D]."""
        return rows_of(antibody, self.antibody_pooling)

    def antigen_rows(self, antigen: Side) -> Tensor:
        """Give what the first layer reads of each antigen: a prepared vector, or residues pooled, [B, D]."""
        return rows_of(antigen, self.antigen_pooling)

    def score_sums(self, sum_BH: Tensor) -> Tensor:
        """Score pairs from what the first layer gives, float32 [B]; without dropout."""
        return self._rest(self._first_block.activate(sum_BH))

    @property
    def _first_block(self) -> Block:
        block = self.blocks[0]
        assert isinstance(block, Block)
        return block

    def _rest(self, x_BD: Tensor) -> Tensor:
        for block in self.blocks[1:]:
            x_BD = block(x_BD)
        score_B: Tensor = self.head(x_BD).squeeze(1).float()
        return score_B


class Regressor(nn.Module):
    """All that predicts pKd: the trained network, and as buffers the statistics of the training split."""

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        antibody_dim: int,
        antigen_dim: int,
        *,
        widths: Sequence[int],
        head: Head = "concat",
        dropout: float = 0.0,
        checkpointing: Checkpointing = "none",
        axes: tuple[int, int] | None = None,
        queries: tuple[int, int] = (0, 0),
    ) -> None:
        """Make it for vectors of these widths, prepared into `axes` numbers each, as many unless given.

        A side that has queries is for the vectors of its residues too.
        """
        super().__init__()
        self.dims = (antibody_dim, antigen_dim)
        self.queries = tuple(queries)
        axes = self.dims if axes is None else axes
        self.antibody, self.antigen = (Prepare(*both) for both in zip(self.dims, axes, strict=True))
        sides = list(zip(self.dims, queries, strict=True))
        self.antibody_scale, self.antigen_scale = (ResidueScale(dim) if asked else None for dim, asked in sides)
        antibody, antigen = (AttentionPooling(dim, asked) if asked else None for dim, asked in sides)
        self.network = Network(
            *axes,
            widths=widths,
            head=head,
            dropout=dropout,
            checkpointing=checkpointing,
            poolings=(antibody, antigen),
        )
        self.register_buffer("target_mean", torch.zeros(()))
        self.register_buffer("target_std", torch.ones(()))

    def fit(self, antibody: Preparation, antigen: Preparation, *, target_mean: float, target_std: float) -> None:
        """Take over the statistics of the training split (pKd for the target)."""
        self.antibody.fit(antibody)
        self.antigen.fit(antigen)
        self.target_mean.fill_(target_mean)
        self.target_std.fill_(target_std)

    def fit_residues(self, antibody: ResidueScale | None, antigen: ResidueScale | None) -> None:
        """Take over the scale of residues of each side that has queries."""
        for own, fitted in ((self.antibody_scale, antibody), (self.antigen_scale, antigen)):
            if own is not None and fitted is not None:
                own.load_state_dict(fitted.state_dict())

    def pkd(self, score_B: Tensor) -> Tensor:
        """Turn scores of the network into pKd, [B]."""
        return score_B * self.target_std + self.target_mean
