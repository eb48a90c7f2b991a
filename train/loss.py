"""The loss of a batch: what scores cost beside the targets.

Scores and targets are in deviations of the training targets. Shape suffixes: B batch; any number of members before it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from train.config import Loss


def batch_loss(
    score_B: Tensor,
    target_B: Tensor,
    weight_B: Tensor,
    side_B: Tensor | None,
    antigen_B: Tensor | None,
    loss: Loss,
) -> Tensor:
    """Sum the losses of the pairs of a batch, float32 [].

    A bound costs nothing where the score is beyond it on its side, and like a measured value elsewhere: the one-sided
    form of each loss, as the hinge is of the absolute error.

    `ranking` is half the squared error, which keeps scores in the unit of the targets, and half the mean of
    log(1 + exp(lower score - higher score)) over a pair's partners: the pairs of its antigen in the batch of which one
    is surely the stronger (RankNet, Burges et al. 2005; its sum with a regression: combined regression and ranking,
    Sculley 2010, alpha = 1/2).

    Args:
        score_B: Scores.
        target_B: Targets.
        weight_B: 1, or 0 for pairs that do not count.
        side_B: 0 where the target is measured, 1 where it is at least and -1 where it is at most this; None: measured.
        antigen_B: Number of each pair's antigen; needed for `ranking` alone.
        loss: Which one.
    """
    error_B = score_B - target_B
    if side_B is not None:
        error_B = error_B.masked_fill(error_B * side_B > 0, 0)
    each_B = pair_loss(error_B, "squared" if loss == "ranking" else loss)
    if loss == "ranking":
        assert antigen_B is not None
        each_B = (each_B + _order_loss(score_B, target_B, weight_B, side_B, antigen_B)) / 2
    return (each_B * weight_B).sum(-1)


def pair_loss(error_B: Tensor, loss: Loss) -> Tensor:
    """Turn errors (in deviations of the training targets) into the loss of each pair, same shape.

    `huber` is twice Huber's function with its corner at 1, so that small errors cost what `squared` asks for them.
    """
    if loss == "squared":
        return error_B.square()
    size_B = error_B.abs()
    return torch.where(size_B <= 1, size_B.square(), 2 * size_B - 1)


def _order_loss(
    score_B: Tensor, target_B: Tensor, weight_B: Tensor, side_B: Tensor | None, antigen_B: Tensor
) -> Tensor:
    """Average over each pair's partners what their order costs; 0 where it has none. Takes B^2 values."""
    least_B = most_B = target_B
    if side_B is not None:
        least_B = target_B.masked_fill(side_B < 0, -torch.inf)
        most_B = target_B.masked_fill(side_B > 0, torch.inf)
    counts_BB = (antigen_B[..., :, None] == antigen_B[..., None, :]) & (weight_B[..., None, :] > 0)
    above_BB = counts_BB & (least_B[..., :, None] > most_B[..., None, :])
    below_BB = counts_BB & (most_B[..., :, None] < least_B[..., None, :])
    ahead_BB = score_B[..., :, None] - score_B[..., None, :]
    cost_BB = F.softplus(-ahead_BB) * above_BB + F.softplus(ahead_BB) * below_BB
    return cost_BB.sum(-1) / (above_BB | below_BB).sum(-1).clamp(min=1)
