"""Predictions: every vector read once, every pair in its place, whatever is held and however pairs are cut."""

from typing import get_args

import numpy as np
import pytest
import torch

from train import predict as module
from train.config import Head
from train.dataset import Matrix
from train.predict import Predictor
from train.prepared import Held, Mapped, place
from train.regressor import Regressor

CPU = torch.device("cpu")


@pytest.fixture(params=get_args(Head))
def regressor(request) -> Regressor:
    torch.manual_seed(0)
    regressor = Regressor(6, 5, widths=(16, 8), head=request.param, dropout=0.5)
    regressor.antibody.map_DK.copy_(torch.randn(6, 6))
    regressor.antigen.mean_D.copy_(torch.randn(5))
    regressor.target_mean.fill_(8.0)
    regressor.target_std.fill_(2.0)
    return regressor


def sides_of(regressor: Regressor, antibodies: int, antigens: int) -> list[Mapped]:
    random = np.random.default_rng(0)
    return [
        Mapped(Matrix.of(random.normal(size=(rows, dim)).astype(np.float32)), np.arange(rows), prepare, torch.float32)
        for rows, dim, prepare in ((antibodies, 6, regressor.antibody), (antigens, 5, regressor.antigen))
    ]


def one_by_one(regressor: Regressor, row_M2: np.ndarray, sides: list[Mapped]) -> np.ndarray:
    regressor.network.eval()
    with torch.no_grad():
        scores = [
            regressor.network(sides[0].rows(row_M2[m : m + 1, 0]), sides[1].rows(row_M2[m : m + 1, 1]))
            for m in range(len(row_M2))
        ]
    return torch.cat(scores).numpy() * 2.0 + 8.0


@pytest.mark.parametrize(("antibodies", "antigens"), [(30, 4), (4, 30), (1, 1)])
@pytest.mark.parametrize("pairs_at_once", [1, 7, 4096])
@pytest.mark.parametrize("held_bytes", [0, 1 << 30])
def test_pairs_in_any_order_get_their_own_prediction(
    regressor, monkeypatch, antibodies, antigens, pairs_at_once, held_bytes
):
    """More antibodies or antigens, repeated pairs, cut anywhere: what the whole network says of each pair alone."""
    monkeypatch.setattr(module, "_HELD_BYTES", held_bytes)
    random = np.random.default_rng(1)
    row_M2 = np.stack([random.integers(0, antibodies, 50), random.integers(0, antigens, 50)], axis=1)
    sides = sides_of(regressor, antibodies, antigens)
    found = Predictor(row_M2, *sides, pairs_at_once=pairs_at_once).predict(regressor)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, one_by_one(regressor, row_M2, sides), atol=1e-5)


def test_no_pairs_have_no_predictions(regressor) -> None:
    """An empty table is none the worse."""
    sides = [place(side, "device") for side in sides_of(regressor, 0, 0)]
    assert Predictor(np.zeros((0, 2), np.int64), *sides).predict(regressor).shape == (0,)


@pytest.mark.parametrize("rows", [(40, 6), (6, 40)])
def test_each_vector_is_read_once(regressor, monkeypatch, rows) -> None:
    """40 vectors of one side and 6 of the other make 240 pairs, and 46 vectors are read."""
    read = []
    original = Mapped.rows
    monkeypatch.setattr(Mapped, "rows", lambda self, index: read.append(len(index)) or original(self, index))
    row_M2 = np.stack(np.meshgrid(*map(np.arange, rows)), axis=-1).reshape(-1, 2)
    shuffled_M2 = np.random.default_rng(0).permutation(row_M2)
    Predictor(shuffled_M2, *sides_of(regressor, *rows), pairs_at_once=240).predict(regressor)
    assert sum(read) == 46


@pytest.mark.parametrize("placement", ["device", "pinned", "mapped"])
def test_where_vectors_wait_changes_no_bit(regressor, placement) -> None:
    """Held or made from the shards again, predictions are the same."""
    random = np.random.default_rng(2)
    row_M2 = np.stack([random.integers(0, 30, 50), random.integers(0, 4, 50)], axis=1)
    sides = sides_of(regressor, 30, 4)
    placed = [place(side, placement) for side in sides]
    assert all(isinstance(side, Mapped if placement == "mapped" else Held) for side in placed)
    found = Predictor(row_M2, *placed).predict(regressor)
    np.testing.assert_array_equal(found, Predictor(row_M2, *sides).predict(regressor))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_held_vectors_are_the_mapped_ones(regressor, dtype) -> None:
    """Row by row, bit by bit, in the dtype asked for; progress counts them all."""
    matrix = Matrix.of(np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32))
    mapped = Mapped(matrix, np.arange(300)[::-1].copy(), regressor.antibody, dtype)
    told = []
    held = place(mapped, "pinned", lambda *step: told.append(step))
    assert told[-1] == ("preparing", 300, 300)
    assert mapped.nbytes == held.vector_UD.nbytes
    index = np.array([7, 0, 299, 7])
    assert held.rows(index).dtype == dtype
    assert torch.equal(held.rows(index), mapped.rows(index))
    expected = (torch.from_numpy(matrix.gather(299 - index)) - regressor.antibody.mean_D) @ regressor.antibody.map_DK
    torch.testing.assert_close(
        held.rows(index).float(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5
    )
