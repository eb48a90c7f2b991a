"""Two-term INT8 against the same arithmetic in float64."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from embed.encoders.fuse import quantise
from embed.encoders.quantize import Int8Linear, two_terms

CPU = torch.device("cpu")


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 64), st.integers(0, 2**31), st.floats(1e-6, 1e6))
def test_two_terms_hold_fifteen_bits(rows, columns, seed, size):
    """An activation is its two terms within 1/508 of its row's scale."""
    x_MK = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    coarse_MK, fine_MK, scale_M1 = two_terms(x_MK)
    restored_MK = scale_M1.double() * (coarse_MK.double() + fine_MK.double() / 254)
    assert ((restored_MK - x_MK.double()).abs() <= scale_M1.double() / 508 * 1.01).all()


def test_the_product_is_exact_but_for_weight_rounding():
    """The layer equals float64 arithmetic on rounded weights, to the activation's 15 bits."""
    torch.manual_seed(0)
    linear = nn.Linear(96, 56)
    x = torch.randn(3, 7, 96)
    weight = linear.weight.detach().double()
    scale = weight.abs().amax(1, keepdim=True) / 127
    rounded = torch.round(weight / scale).clamp(-127, 127) * scale
    expected = x.double() @ rounded.T + linear.bias.detach().double()
    actual = Int8Linear([linear], terms=2, device=CPU)(x).double()
    assert actual.shape == (3, 7, 56)
    assert (actual - expected).norm() / expected.norm() < 5e-5


def test_zero_rows_and_channels_stay_zero():
    """An all-zero token or channel is not divided by zero."""
    linear = nn.Linear(16, 8, bias=False)
    linear.weight.data[3] = 0
    x = torch.randn(4, 16)
    x[2] = 0
    y = Int8Linear([linear], terms=2, device=CPU)(x)
    assert torch.isfinite(y).all()
    assert (y[2] == 0).all()
    assert (y[:, 3] == 0).all()


def test_a_row_does_not_see_its_neighbours():
    """Each row's product is bit-identical alone and in company."""
    torch.manual_seed(1)
    layer = Int8Linear([nn.Linear(64, 32)], terms=2, device=CPU)
    x_MK = torch.randn(50, 64) * torch.logspace(-3, 3, 50)[:, None]
    together = layer(x_MK)
    assert all(torch.equal(layer(x_MK[i : i + 1]), together[i : i + 1]) for i in range(50))


def test_outliers_do_not_drown_the_rest():
    """Channels a hundred times larger than the others leave an error of weight rounding only."""
    torch.manual_seed(2)
    linear = nn.Linear(128, 64, bias=False)
    x = torch.randn(32, 128)
    x[:, 5] *= 100
    layer = Int8Linear([linear], terms=2, device=CPU)
    weight = linear.weight.detach().double()
    scale = weight.abs().amax(1, keepdim=True) / 127
    weights_only = x.double() @ (torch.round(weight / scale) * scale).T
    assert ((layer(x).double() - weights_only).norm() / weights_only.norm()).item() < 1e-3


def test_every_linear_of_a_model_is_replaced():
    """No layer is left in float, however deep."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 4)), nn.LayerNorm(4))
    quantise(model, terms=2, device=CPU)
    kinds = [type(module) for module in model.modules()]
    assert nn.Linear not in kinds
    assert kinds.count(Int8Linear) == 2
    assert np.isfinite(model(torch.ones(2, 8)).numpy(force=True)).all()
