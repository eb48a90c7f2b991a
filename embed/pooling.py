"""Hidden states of residues -> one vector of a sequence."""

import torch

# B pieces in a batch, L tokens, D width


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
