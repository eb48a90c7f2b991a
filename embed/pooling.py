"""Hidden states of residues -> one vector of a sequence."""

from collections.abc import Sequence

import torch

# B pieces in a batch, L tokens, S pieces in a run, T tokens in a row, D width


def weighted_sum(hidden_BLD: torch.Tensor, weight_BL: torch.Tensor) -> torch.Tensor:
    """Add up each piece's hidden states, in float32 whatever the encoder computes in.

    A masked mean is this sum with weights 1/n on the n residues and 0 elsewhere; a sequence read in windows
    is the sum of its pieces, so one weight a token covers both.

    Args:
        hidden_BLD: Hidden states, any float dtype.
        weight_BL: Weights, float32; 0 on special tokens and padding.

    Returns:
        float32 `[B, D]`.
    """
    return torch.bmm(weight_BL.unsqueeze(1), hidden_BLD.float()).squeeze(1)


def packed_sum(hidden_TD: torch.Tensor, weight_T: torch.Tensor, runs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Add up the hidden states of each piece of a row.

    Args:
        hidden_TD: Hidden states, any float dtype.
        weight_T: Weights, float32.
        runs: Pieces in each run of equally long ones, and tokens of each.

    Returns:
        float32 `[B, D]`, in the order of the row.
    """
    sums_SD, start = [], 0
    for count, length in runs:
        end = start + count * length
        hidden_SLD = hidden_TD[start:end].unflatten(0, (count, length))
        sums_SD.append(weighted_sum(hidden_SLD, weight_T[start:end].view(count, length)))
        start = end
    return torch.cat(sums_SD)
