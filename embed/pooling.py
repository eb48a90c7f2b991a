"""Hidden states of residues -> the vectors of a sequence, side by side."""

from collections.abc import Sequence

import torch

# B pieces in a batch, L tokens, S pieces in a run, T tokens in a row, V vectors of a sequence, D width of one


def weighted_sum(hidden_BLD: torch.Tensor, weight_BVL: torch.Tensor) -> torch.Tensor:
    """Add up each piece's hidden states, in float32 whatever the encoder computes in.

    A masked mean is this sum with weights 1/n on the n residues and 0 elsewhere; a sequence read in windows
    is the sum of its pieces, so one weight a token and vector covers both.

    Args:
        hidden_BLD: Hidden states, any float dtype.
        weight_BVL: Weights, float32; 0 on special tokens, padding and what is no part of the vector.

    Returns:
        float32 `[B, V * D]`; zeros where a vector has no weights.
    """
    return torch.bmm(weight_BVL, hidden_BLD.float()).flatten(1)


def packed_sum(hidden_TD: torch.Tensor, weight_VT: torch.Tensor, runs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Add up the hidden states of each piece of a row.

    Args:
        hidden_TD: Hidden states, any float dtype.
        weight_VT: Weights, float32.
        runs: Pieces in each run of equally long ones, and tokens of each.

    Returns:
        float32 `[B, V * D]`, in the order of the row.
    """
    sums_SD, start = [], 0
    for count, length in runs:
        end = start + count * length
        hidden_SLD = hidden_TD[start:end].unflatten(0, (count, length))
        weight_SVL = weight_VT[:, start:end].unflatten(1, (count, length)).transpose(0, 1)
        sums_SD.append(weighted_sum(hidden_SLD, weight_SVL))
        start = end
    return torch.cat(sums_SD)
