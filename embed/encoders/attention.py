"""Attention over sequences laid end to end: each one sees itself alone, and nothing is padded.

Shape suffixes: R runs of equally long sequences, S sequences in a run, L tokens of each, T tokens in all,
H heads, D width of a head, E distances between two tokens.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.models.esm.modeling_esm import apply_rotary_pos_emb

from embed.encoders.kernel import find_kernel

PACKED = "bindcache_packed"
"""Under this name transformers knows the attention of this module; models get it as `attn_implementation`."""


def attend_packed(
    module: torch.nn.Module,
    query_1HTD: Tensor,
    key_1HTD: Tensor,
    value_1HTD: Tensor,
    attention_mask: Tensor | None,
    *,
    runs_R2: Tensor,
    scaling: float,
    turn_2PD: Tensor | None = None,
    bias_HE: Tensor | None = None,
    **kwargs: Any,  # noqa: ANN401 (what transformers passes to every attention)
) -> tuple[Tensor, None]:
    """Attend within each sequence of one row, as transformers calls it.

    Args:
        module: The layer that asks.
        query_1HTD: One row of sequences end to end, any float dtype.
        key_1HTD: Likewise.
        value_1HTD: Likewise.
        attention_mask: None, as there is no padding to mask.
        runs_R2: Sequences in each run and tokens of each, int64 on the host.
        scaling: Factor of the scores.
        turn_2PD: Cosine and sine by place in a sequence, to turn queries and keys with.
        bias_HE: Added to the scores by distance: column `E // 2 + key - query`.
        kwargs: Unused.

    Returns:
        `[1, T, H, D]`, and None in place of the weights.
    """
    assert attention_mask is None
    y_THD: Tensor = torch.ops.bindcache.attend(
        query_1HTD[0], key_1HTD[0], value_1HTD[0], runs_R2, scaling, turn_2PD, bias_HE
    )
    return y_THD.unsqueeze(0), None


# one opaque operation, so that a compiled layer has no graph for each way to cut a row
@torch.library.custom_op("bindcache::attend", mutates_args=())
def _attend(
    query_HTD: Tensor,
    key_HTD: Tensor,
    value_HTD: Tensor,
    runs_R2: Tensor,
    scaling: float,
    turn_2PD: Tensor | None,
    bias_HE: Tensor | None,
) -> Tensor:
    if query_HTD.device.type == "cpu" and query_HTD.dtype == torch.float32:
        kernel, _ = find_kernel()
        if kernel is not None:
            query_THD, key_THD, value_THD = (x_HTD.transpose(0, 1) for x_HTD in (query_HTD, key_HTD, value_HTD))
            return kernel.attend(query_THD, key_THD, value_THD, _starts(runs_R2), scaling, turn_2PD, bias_HE)
    if query_HTD.device.type == "cuda" and query_HTD.dtype != torch.float32 and bias_HE is None:
        return _attend_varlen(query_HTD, key_HTD, value_HTD, runs_R2, scaling, turn_2PD)
    return _attend_by_run(query_HTD, key_HTD, value_HTD, runs_R2, scaling, turn_2PD, bias_HE)


@_attend.register_fake
def _(query_HTD: Tensor, *_: object) -> Tensor:
    return torch.empty_like(query_HTD.transpose(0, 1), memory_format=torch.contiguous_format)


def _attend_varlen(
    query_HTD: Tensor, key_HTD: Tensor, value_HTD: Tensor, runs_R2: Tensor, scaling: float, turn_2PD: Tensor | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    starts = _starts(runs_R2)
    if turn_2PD is not None:
        place_T = torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(starts.diff())
        turn_21TD = turn_2PD[:, place_T.to(turn_2PD.device)].unsqueeze(1)
        query_1HTD, key_1HTD = apply_rotary_pos_emb(query_HTD.unsqueeze(0), key_HTD.unsqueeze(0), *turn_21TD.unbind())
        query_HTD, key_HTD = query_1HTD[0], key_1HTD[0]
    longest, bounds = int(runs_R2[:, 1].max()), starts.to(query_HTD.device, torch.int32)
    query_THD, key_THD, value_THD = (x_HTD.transpose(0, 1).contiguous() for x_HTD in (query_HTD, key_HTD, value_HTD))
    y_THD = varlen_attn(query_THD, key_THD, value_THD, bounds, bounds, longest, longest, scale=scaling)
    assert isinstance(y_THD, Tensor)
    return y_THD


def _attend_by_run(
    query_HTD: Tensor,
    key_HTD: Tensor,
    value_HTD: Tensor,
    runs_R2: Tensor,
    scaling: float,
    turn_2PD: Tensor | None,
    bias_HE: Tensor | None,
) -> Tensor:
    y_THD = torch.empty_like(query_HTD.transpose(0, 1), memory_format=torch.contiguous_format)
    start = 0
    for count, length in runs_R2.tolist():
        run = slice(start, start + count * length)
        query_SHLD, key_SHLD, value_SHLD = (
            x_HTD[:, run].unflatten(1, (count, length)).transpose(0, 1) for x_HTD in (query_HTD, key_HTD, value_HTD)
        )
        if turn_2PD is not None:
            query_SHLD, key_SHLD = apply_rotary_pos_emb(query_SHLD, key_SHLD, *turn_2PD[:, None, :length].unbind())
        bias_1HLL = None if bias_HE is None else spread_bias(bias_HE, length).to(query_HTD.dtype).unsqueeze(0)
        y_SHLD = scaled_dot_product_attention(query_SHLD, key_SHLD, value_SHLD, attn_mask=bias_1HLL, scale=scaling)
        y_THD[run] = y_SHLD.transpose(1, 2).flatten(0, 1)
        start = run.stop
    return y_THD


def _starts(runs_R2: Tensor) -> Tensor:
    return torch.nn.functional.pad(runs_R2[:, 1].repeat_interleave(runs_R2[:, 0]).cumsum(0), (1, 0))


def spread_bias(bias_HE: Tensor, length: int) -> Tensor:
    """Turn a bias by distance into one by query and key, `[H, L, L]`."""
    at_L = torch.arange(length, device=bias_HE.device)
    return bias_HE[:, bias_HE.shape[1] // 2 + at_L[None, :] - at_L[:, None]].contiguous()


AttentionInterface.register(PACKED, attend_packed)
