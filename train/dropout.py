"""Dropout whose masks are a function of seed, batch and unit: they need no random state, and no device changes them.

Shape suffixes: K networks side by side, B batch, D width, N 64-bit numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16
_UNITS_PER_NUMBER = 4
_APART = 1 << 40
"""Numbers between the first ones of two dropouts of a network."""
_ALL = (1 << 64) - 1
# SplitMix64 (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195): a counter, and how it is scattered.
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31


@dataclass(slots=True)
class Draw:
    """Which masks the dropouts of a network draw next; all of them share it."""

    base: int | Tensor = 0
    """A 64-bit number that no two batches share; of networks side by side one each, int64 [K, 1]."""


class Dropout(nn.Module):
    """Zeroes a share of the units in training and scales the others, so that their mean stays.

    The share is rounded to a multiple of 2^-16, and each 64-bit number serves four units. A compiled network draws
    from torch's global random state instead.
    """

    def __init__(self, share: float, draw: Draw, number: int = 0) -> None:
        """Drop this share; `number` tells the dropouts of a network apart."""
        super().__init__()
        self.share = share
        self.draw = draw
        self.number = number

    def forward(self, x_BD: Tensor) -> Tensor:
        """Drop units of [B, D], same shape and dtype out."""
        if not self.training or self.share == 0:
            return x_BD
        if torch.compiler.is_compiling():
            return F.dropout(x_BD, self.share)
        return drop(x_BD, self.share, self.draw, self.number)


def drop(x: Tensor, share: float | Tensor, draw: Draw, number: int) -> Tensor:
    """Drop units of a network's activations, or of several networks' side by side.

    Args:
        x: [B, D], or [K, B, D].
        share: The share to drop; of several networks one each, float32 [K, 1, 1].
        draw: Which masks to draw.
        number: Which dropout of the network this is.
    """
    numbers = -(-x.shape[-1] * x.shape[-2] // _UNITS_PER_NUMBER)
    mixed_N = _mix(_counter(numbers, x.device) + first_of(draw, number))
    level = mixed_N.view(torch.int16)[..., : x.shape[-1] * x.shape[-2]].view(x.shape)
    dropped = torch.round(share * _LEVELS) if isinstance(share, Tensor) else levels_of(share)
    kept = (level >= dropped - _LEVELS // 2).to(x.dtype)
    return x * kept.mul_(_LEVELS / (_LEVELS - dropped))


def first_of(draw: Draw, number: int) -> int | Tensor:
    """Give the counter from which dropout `number` of a network draws, a signed 64-bit number."""
    apart = _signed(number * _APART * _GOLDEN)
    return draw.base + apart if isinstance(draw.base, Tensor) else _signed(draw.base + apart)


def levels_of(share: float) -> int:
    """Give the share that is dropped, in 2^-16."""
    return round(share * _LEVELS)


def base_of(seed: int, batch: int) -> int:
    """Give the base of a training's `batch`-th batch, a signed 64-bit number."""
    number = seed
    for added in (_GOLDEN, batch * _GOLDEN):
        number = (number + added) & _ALL
        for shift, factor in _MIX:
            number = (number ^ number >> shift) * factor & _ALL
        number ^= number >> _LAST_SHIFT
    return _signed(number)


def _mix(x_N: Tensor) -> Tensor:
    """Scatter 64-bit numbers, int64 [..., N], in place."""
    for shift, factor in _MIX:
        x_N ^= (x_N >> shift).bitwise_and_(_ALL >> shift)
        x_N *= _signed(factor)
    x_N ^= (x_N >> _LAST_SHIFT).bitwise_and_(_ALL >> _LAST_SHIFT)
    return x_N


_counters: dict[torch.device, Tensor] = {}


def _counter(numbers: int, device: torch.device) -> Tensor:
    """Give the first multiples of the golden ratio, int64 [N]."""
    if device not in _counters or len(_counters[device]) < numbers:
        _counters[device] = torch.arange(numbers, device=device) * _signed(_GOLDEN)
    return _counters[device][:numbers]


def _signed(number: int) -> int:
    number &= _ALL
    return number - (1 << 64) if number >> 63 else number
