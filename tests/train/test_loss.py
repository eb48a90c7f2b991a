"""Losses: each against a plain loop over pairs, with bounds, padding and several members."""

import math

import pytest
import torch

from train.loss import batch_loss


def loop(score, target, weight, side, antigen, loss) -> float:
    """Sum the losses pair by pair, as the documentation says."""

    def one(error: float, side: int) -> float:
        if error * side > 0:
            return 0.0
        return error**2 if loss != "huber" or abs(error) <= 1 else 2 * abs(error) - 1

    def surely_above(i: int, j: int) -> bool:
        low = target[i] if side[i] >= 0 else -math.inf
        high = target[j] if side[j] <= 0 else math.inf
        return low > high

    total = 0.0
    for i in range(len(score)):
        value = one(score[i] - target[i], side[i])
        if loss == "ranking":
            costs = []
            for j in range(len(score)):
                if weight[j] and antigen[i] == antigen[j]:
                    if surely_above(i, j):
                        costs.append(math.log1p(math.exp(score[j] - score[i])))
                    elif surely_above(j, i):
                        costs.append(math.log1p(math.exp(score[i] - score[j])))
            value = (value + (sum(costs) / len(costs) if costs else 0)) / 2
        total += value * weight[i]
    return total


@pytest.mark.parametrize("loss", ["squared", "huber", "ranking"])
def test_losses_are_what_a_loop_over_pairs_says(loss) -> None:
    """Bounds are one-sided, ties and other antigens are no partners, padding counts nowhere."""
    random = torch.Generator().manual_seed(0)
    shape = (3, 17)  # members, pairs
    score, target = (torch.randn(shape, generator=random) * 2 for _ in range(2))
    target = (target * 2).round() / 2
    weight = (torch.rand(shape, generator=random) > 0.2).float()
    side, antigen = (torch.randint(low, 2, shape, generator=random).float() for low in (-1, 0))
    found = batch_loss(score, target, weight, side, antigen, loss)
    columns = [column.tolist() for column in (score, target, weight, side, antigen)]
    expected = [loop(*row, loss) for row in zip(*columns, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_prediction_beyond_its_bound_is_left_in_peace() -> None:
    """At least 1 and at most -1: beyond, no loss and no gradient; on the wrong side, both."""
    score = torch.tensor([2.0, 0.0, -2.0, 0.0], requires_grad=True)
    target, side = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([1.0, 1.0, -1.0, -1.0])
    batch_loss(score, target, torch.ones(4), side, None, "squared").backward()
    assert score.grad.tolist() == [0.0, -2.0, 0.0, 2.0]
