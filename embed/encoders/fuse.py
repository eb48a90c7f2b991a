"""Official encoder layers -> the same layers with their linear layers in INT8, and what surrounds these fused in.

Query, key and value become one product; the activation and the residual are taken along with the product they follow.
Anything that is not laid out as published keeps its own forward, with plain INT8 linear layers in it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from embed.encoders.quantize import Int8Linear

_HIDDEN = 2**22
"""Activations of a feed-forward layer at once: 16 MiB of float32, which the caches hold."""


class _Shared:
    """One product for several layers that read the same input one after another."""

    def __init__(self, product: Int8Linear, widths: list[int]) -> None:
        self.product, self._widths = product, widths
        self._input: Tensor | None = None
        self._left: list[Tensor] = []

    def next(self, x: Tensor) -> Tensor:
        if x is not self._input:  # a forward pass that ran out of memory may have left its own behind
            self._input, self._left = x, list(self.product(x).split(self._widths, dim=-1))
        share = self._left.pop(0)
        if not self._left:
            self._input = None
        return share


class _Share(nn.Module):
    """One of the layers of a shared product, in the place of the official one."""

    def __init__(self, shared: _Shared) -> None:
        super().__init__()
        self._shared = shared
        self.product = shared.product  # a module knows the weights of its own modules alone

    def forward(self, x: Tensor) -> Tensor:
        return self._shared.next(x)


class _FeedForward(nn.Module):
    """T5's `wo(relu(wi(x)))`, as many tokens at once as the caches hold: `wi` is sixteen times as wide as x."""

    def __init__(self, wide: Int8Linear, narrow: Int8Linear) -> None:
        super().__init__()
        self.wide, self.narrow = wide, narrow
        self._tokens = max(1, _HIDDEN // wide.out_features)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            y: Tensor = self.narrow(self.wide(x))
            return y
        parts = x.reshape(-1, x.shape[-1]).split(self._tokens)
        return torch.cat([self.narrow(self.wide(part)) for part in parts]).view(x.shape)


def quantise(model: nn.Module, *, terms: int, device: torch.device) -> None:
    """Put a frozen model's linear layers into INT8, one by one, so that float weights leave memory as int8 ones come.

    Args:
        model: `T5EncoderModel` or `EsmModel`, float32.
        terms: 1 or 2 int8 terms of each activation.
        device: Where it will compute.
    """
    for name, child in list(model.named_children()):
        kind = type(child).__name__
        if isinstance(child, nn.Linear):
            setattr(model, name, Int8Linear([child], terms=terms, device=device))
        elif kind in ("EsmSelfAttention", "T5Attention"):
            _share(child, ("query", "key", "value") if kind == "EsmSelfAttention" else ("q", "k", "v"), terms, device)
            quantise(child, terms=terms, device=device)
        elif kind in _FUSED:
            setattr(model, name, _FUSED[kind](child, terms, device))
        else:
            quantise(child, terms=terms, device=device)


def _share(attention: nn.Module, names: tuple[str, ...], terms: int, device: torch.device) -> None:
    linears: list[nn.Linear] = [getattr(attention, name) for name in names]
    shared = _Shared(Int8Linear(linears, terms=terms, device=device), [linear.out_features for linear in linears])
    for name in names:
        setattr(attention, name, _Share(shared))


def _fuse_intermediate(layer: Any, terms: int, device: torch.device) -> nn.Module:  # noqa: ANN401
    return Int8Linear([layer.dense], terms=terms, device=device, activation="gelu")


def _fuse_output(layer: Any, terms: int, device: torch.device) -> nn.Module:  # noqa: ANN401
    return Int8Linear([layer.dense], terms=terms, device=device)


def _fuse_feed_forward(layer: Any, terms: int, device: torch.device) -> nn.Module:  # noqa: ANN401
    if not isinstance(layer.act, nn.ReLU):
        quantise(layer, terms=terms, device=device)
        return layer  # type: ignore[no-any-return]
    wide = Int8Linear([layer.wi], terms=terms, device=device, activation="relu")
    return _FeedForward(wide, Int8Linear([layer.wo], terms=terms, device=device))


_FUSED = {
    "EsmIntermediate": _fuse_intermediate,
    "EsmSelfOutput": _fuse_output,
    "EsmOutput": _fuse_output,
    "T5DenseActDense": _fuse_feed_forward,
}
"""By class name: dense and GELU; dense plus residual, twice; wi, ReLU and wo."""
