"""Predictions of a trained regressor: in float32 and uncompiled, however it was trained.

The weights stand still, so the first layer reads every distinct vector once and pairs join the two halves.

Shape suffixes: N or M pairs, B pairs at once, U distinct vectors, K width of a half of the first layer.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.acceleration import resolve_device
from train.attention_pooling import Side
from train.dataset import Dataset, distinct_rows
from train.errors import TrainError
from train.prepared import Index, Prepared, unplaced
from train.regressor import Regressor
from train.rundir import RunDir
from train.weights import load_regressor

_PAIRS_AT_ONCE = 4096
_HELD_BYTES = 1 << 30


class Predictor:
    """Predicts the same pairs as often as asked, with the weights of the moment.

    Pairs come in the order of the side with more distinct vectors, whose halves are computed as they come; the halves
    of the other side are held, or where they would take more than 1 GiB, computed once for each `pairs_at_once`.
    """

    def __init__(
        self, row_M2: Index, antibodies: Prepared, antigens: Prepared, *, pairs_at_once: int = _PAIRS_AT_ONCE
    ) -> None:
        """Take pairs as rows of float32 antibody and antigen vectors."""
        self._sides = (antibodies, antigens)
        self._long = int(len(antigens) > len(antibodies))
        self._order_M = np.argsort(row_M2[:, self._long], kind="stable")
        self._row_M2 = row_M2[self._order_M]
        self._pairs_at_once = pairs_at_once

    @torch.no_grad()
    def predict(self, regressor: Regressor) -> npt.NDArray[np.float32]:
        """Predict the pKd of all pairs, float32 [M]; the network stays in evaluation mode."""
        network = regressor.network.eval()
        first = network.first_layer
        held_bytes = len(self._sides[1 - self._long]) * first.bias.nbytes
        antibody, antigen = (
            _Halves(side, half, hold=number != self._long and held_bytes <= _HELD_BYTES)
            for number, (side, half) in enumerate(
                zip(
                    self._sides,
                    (
                        lambda rows: first.antibody_half(network.antibody_rows(rows)),
                        lambda rows: first.antigen_half(network.antigen_rows(rows)),
                    ),
                    strict=True,
                )
            )
        )
        scores = [torch.zeros(0, device=first.bias.device)]
        for start in range(0, len(self._row_M2), self._pairs_at_once):
            row_B2 = self._row_M2[start : start + self._pairs_at_once]
            sum_BH = first.join(antibody.of(row_B2[:, 0]), antigen.of(row_B2[:, 1]))
            scores.append(network.score_sums(sum_BH))
        prediction_M = np.empty(len(self._order_M), np.float32)
        prediction_M[self._order_M] = regressor.pkd(torch.cat(scores)).cpu().numpy()
        return prediction_M


class _Halves:
    """What the first layer makes of one side of pairs, computed once per distinct vector."""

    def __init__(self, side: Prepared, half: Callable[[Side], Tensor], *, hold: bool) -> None:
        self._side = side
        self._half = half
        self._held_UK = self._make(np.arange(len(side))) if hold and len(side) else None

    def of(self, row_B: Index) -> Tensor:
        """Give the half of each pair, [B, K]."""
        if self._held_UK is not None:
            return self._pick(self._held_UK, row_B)
        row_U, place_B = np.unique(row_B, return_inverse=True)
        return self._pick(self._make(row_U), place_B)

    def _make(self, row_U: Index) -> Tensor:
        return torch.cat([self._half(self._side.rows(some)) for some in self._side.cut(row_U)])

    @staticmethod
    def _pick(half_UK: Tensor, place_B: Index) -> Tensor:
        return half_UK.index_select(0, torch.from_numpy(np.ascontiguousarray(place_B)).to(half_UK.device))


def predict_rows(run: Path, dataset: Dataset, *, device: str = "auto") -> npt.NDArray[np.float32]:
    """Predict the pKd of every pair of a dataset with the best weights of a run, float32 [N].

    Args:
        run: Folder of a run that has ended at least one epoch.
        dataset: Pairs with vectors of the same encoders as the run's.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        TrainError: The run has no weights, they are damaged, or the vectors have other widths.
    """
    regressor, _ = load_regressor(RunDir(run).weights)
    matrices = (dataset.antibodies, dataset.antigens)
    there = (dataset.antibodies.dim, dataset.antigens.dim)
    if there != regressor.dims:
        raise TrainError(
            f"The run {run} reads vectors of widths {regressor.dims}, the store's have {there}: "
            "embed with the encoders that the run was trained on."
        )
    for role, matrix, queries in zip(("antibody", "antigen"), matrices, regressor.queries, strict=True):
        if queries and not matrix.has_residues:
            raise TrainError(
                f"The run {run} reads vectors of {role} residues, and the store has one vector of each {role}: "
                'embed with embed.pooling = "residues".'
            )
    regressor.to(resolve_device(device))
    row_N2, (antibody_U, antigen_U) = distinct_rows(dataset.row_N2)
    antibodies = unplaced(dataset.antibodies, antibody_U, regressor.antibody, regressor.antibody_scale, torch.float32)
    antigens = unplaced(dataset.antigens, antigen_U, regressor.antigen, regressor.antigen_scale, torch.float32)
    return Predictor(row_N2, antibodies, antigens).predict(regressor)
