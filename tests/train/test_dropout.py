"""Dropout: the share that is asked for, the mean kept, masks that seed, batch and place decide."""

import pytest
import torch

from train.dropout import Draw, Dropout, base_of, drop


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_asked_for_is_dropped_and_the_mean_stays(share, dtype) -> None:
    """Within five standard errors of a million units; what stays is scaled alike."""
    units = 1_000_003  # no multiple of the units of a draw
    found = Dropout(share, Draw())(torch.ones(1, units, dtype=dtype)).float()
    error = (share * (1 - share) / units) ** 0.5
    assert abs((found == 0).float().mean().item() - share) < 5 * error + 1e-5
    kept = found[found != 0]
    assert len(torch.unique(kept)) == 1
    assert kept[0].item() == pytest.approx(1 / (1 - share), rel=1e-2 if dtype == torch.bfloat16 else 1e-3)


def test_units_are_dropped_one_by_one() -> None:
    """Neighbours, which share a random number, are dropped independently: all 16 patterns of four are as frequent."""
    kept = Dropout(0.5, Draw(7))(torch.ones(1, 400_000)).reshape(-1, 4) > 0
    pattern = kept.int() @ torch.tensor([1, 2, 4, 8], dtype=torch.int32)
    count = torch.bincount(pattern, minlength=16).double()
    assert ((count - 6250) ** 2 / 6250).sum() < 45  # chi squared, 15 degrees: exceeded once in ten thousand


def test_the_gradient_passes_where_the_unit_stayed() -> None:
    """The backward pass knows the mask of the forward pass."""
    x = torch.randn(50, 7, requires_grad=True)
    found = Dropout(0.3, Draw())(x)
    found.sum().backward()
    torch.testing.assert_close(x.grad * x, found)
    assert 0 < int((x.grad == 0).sum()) < 350


def test_seed_batch_and_place_decide() -> None:
    """The same three give the same mask, whatever was drawn before; any other one gives a mask without likeness."""
    ones = torch.ones(256, 64)
    masks = {
        (seed, batch, number): Dropout(0.5, Draw(base_of(seed, batch)), number)(ones) > 0
        for seed in (0, 1, 2**63)
        for batch in (0, 1, 100_000)
        for number in (0, 1, 3)
    }
    assert torch.equal(Dropout(0.5, Draw(base_of(1, 1)), 3)(ones) > 0, masks[1, 1, 3])
    flat = torch.stack([mask.flatten() for mask in masks.values()]).double() - 0.5
    likeness = (flat @ flat.T / flat.shape[1] * 4).fill_diagonal_(0)
    assert likeness.abs().max() < 5 / ones.numel() ** 0.5
    shifted = [
        torch.roll(flat[first], by) @ flat[second] / ones.numel() * 4
        for first in range(4)
        for second in range(4)
        for by in range(-8, 9)
        if by or first != second
    ]
    assert sum(abs(value) > 6 / ones.numel() ** 0.5 for value in shifted) == 0


def test_networks_side_by_side_drop_what_each_drops_alone() -> None:
    """One share and one base for each of them."""
    x_KBD, bases, shares = torch.randn(3, 8, 10), [base_of(k, 4) for k in range(3)], [0.1, 0.0, 0.7]
    together = drop(x_KBD, torch.tensor(shares)[:, None, None], Draw(torch.tensor(bases)[:, None]), 2)
    alone = [Dropout(share, Draw(base), 2)(x) for x, base, share in zip(x_KBD, bases, shares, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_nothing_is_dropped_in_evaluation(share) -> None:
    """Nor where the share is 0."""
    x = torch.randn(5, 5)
    assert Dropout(share, Draw()).eval()(x) is x
    assert Dropout(0.0, Draw())(x) is x
