"""Dropout on the CPU: the share that is asked for, the mean kept, masks that are remembered."""

import pytest
import torch

from train.dropout import Dropout


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_asked_for_is_dropped_and_the_mean_stays(share, dtype) -> None:
    """Within five standard errors of a million units; what stays is scaled alike."""
    torch.manual_seed(0)
    units = 1_000_003  # no multiple of the units of a draw
    found = Dropout(share)(torch.ones(1, units, dtype=dtype)).float()
    error = (share * (1 - share) / units) ** 0.5
    assert abs((found == 0).float().mean().item() - share) < 5 * error + 1e-5
    kept = found[found != 0]
    assert len(torch.unique(kept)) == 1
    assert kept[0].item() == pytest.approx(1 / (1 - share), rel=1e-2 if dtype == torch.bfloat16 else 1e-3)


def test_units_are_dropped_one_by_one() -> None:
    """Neighbours, which share a random number, are dropped independently: all 16 patterns of four are as frequent."""
    torch.manual_seed(0)
    kept = Dropout(0.5)(torch.ones(400_000)).reshape(-1, 4) > 0
    pattern = kept.int() @ torch.tensor([1, 2, 4, 8], dtype=torch.int32)
    count = torch.bincount(pattern, minlength=16).double()
    assert ((count - 6250) ** 2 / 6250).sum() < 45  # chi squared, 15 degrees: exceeded once in ten thousand


def test_the_gradient_passes_where_the_unit_stayed() -> None:
    """The backward pass knows the mask of the forward pass."""
    x = torch.randn(50, 7, requires_grad=True)
    found = Dropout(0.3)(x)
    found.sum().backward()
    torch.testing.assert_close(x.grad * x, found)
    assert 0 < int((x.grad == 0).sum()) < 350


def test_the_random_state_of_torch_decides() -> None:
    """The same state gives the same mask, and masks follow one another in it."""
    drop, ones = Dropout(0.5), torch.ones(64, 3)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = drop(ones), drop(ones)
    torch.set_rng_state(state)
    assert torch.equal(drop(ones), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_nothing_is_dropped_in_evaluation(share) -> None:
    """Nor where the share is 0."""
    x = torch.randn(5, 5)
    assert Dropout(share).eval()(x) is x
    assert Dropout(0.0)(x) is x
