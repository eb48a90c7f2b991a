"""The network: prepared vectors of a pair in, pKd out.

Shape suffixes: B batch, U distinct antigens, D width of a vector or of a layer, H width of the first layer, K that of
its halves.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from train.config import Head
from train.dropout import Draw, Dropout
from train.features import Preparation
from train.heads import Concat, make_join

Checkpointing = Literal["none", "wide", "all"]

_ROWS = 128


class Prepare(nn.Module):
    """Subtracts the training mean and applies the preparing map, in float32.

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

    @torch.no_grad()
    def forward(self, vector_BD: Tensor) -> Tensor:
        """Prepare float32 [B, D] vectors, same shape and dtype out.

        All products have one shape, so that no bit of a row depends on how many rows are prepared with it.
        """
        centred_BD = F.pad(vector_BD - self.mean_D, (0, 0, 0, -len(vector_BD) % _ROWS))
        prepared_BD = torch.empty_like(centred_BD)
        for start in range(0, len(centred_BD), _ROWS):
            rows = slice(start, start + _ROWS)
            torch.mm(centred_BD[rows], self.map_DD, out=prepared_BD[rows])
        return prepared_BD[: len(vector_BD)]


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
    ) -> None:
        super().__init__()
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

    def forward(self, antibody_BD: Tensor, antigen_UD: Tensor, which_BU: Tensor | None = None) -> Tensor:
        """Score pairs, float32 [B]; arguments as for the first layer, in the dtype of the weights."""
        return self._rest(self.blocks[0](antibody_BD, antigen_UD, which_BU))

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
    ) -> None:
        super().__init__()
        self.dims = (antibody_dim, antigen_dim)
        self.antibody = Prepare(antibody_dim)
        self.antigen = Prepare(antigen_dim)
        self.network = Network(
            antibody_dim, antigen_dim, widths=widths, head=head, dropout=dropout, checkpointing=checkpointing
        )
        self.register_buffer("target_mean", torch.zeros(()))
        self.register_buffer("target_std", torch.ones(()))

    def fit(self, antibody: Preparation, antigen: Preparation, *, target_mean: float, target_std: float) -> None:
        """Take over the statistics of the training split (pKd for the target)."""
        self.antibody.fit(antibody)
        self.antigen.fit(antigen)
        self.target_mean.fill_(target_mean)
        self.target_std.fill_(target_std)

    def pkd(self, score_B: Tensor) -> Tensor:
        """Turn scores of the network into pKd, [B]."""
        return score_B * self.target_std + self.target_mean
