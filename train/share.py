"""What a batch adds to an optimizer step: a training yields it, and whoever computes gradients sends its loss back."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

import torch

from train.loader import Batch

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one batch adds to an optimizer step."""

    batch: Batch
    rows: int
    """Pairs of the whole step."""
    base: int
    """What its dropout masks are drawn from."""
    add: bool
    """Whether its gradient adds to that of the batch before."""


def drive(steps: Generator[Share, torch.Tensor, R], differentiate: Callable[[Share], torch.Tensor]) -> R:
    """Give every share that steps yield to a function, and its loss back; returns what the steps return."""
    try:
        share = next(steps)
        while True:
            share = steps.send(differentiate(share))
    except StopIteration as end:
        result: R = end.value
        return result
