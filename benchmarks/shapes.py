"""The shapes of the encoders that are measured."""

from dataclasses import dataclass
from typing import Literal

Family = Literal["esm2", "igt5"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One encoder's size."""

    family: Family
    layers: int
    width: int
    feed_forward: int
    heads: int
    head_width: int
    demo: bool = False
    """Written by the demo, which fixes its size."""

    @property
    def weights(self) -> int:
        """Weights in the linear layers: every token is multiplied and added with each of them once."""
        attention = 4 * self.width * self.heads * self.head_width
        return self.layers * (attention + 2 * self.width * self.feed_forward)


def _esm2(layers: int, width: int, heads: int) -> Shape:
    return Shape(
        family="esm2", layers=layers, width=width, feed_forward=4 * width, heads=heads, head_width=width // heads
    )


def _igt5(layers: int) -> Shape:
    return Shape(family="igt5", layers=layers, width=1024, feed_forward=16384, heads=32, head_width=128)


def _demo(family: Family) -> Shape:
    return Shape(family=family, layers=2, width=128, feed_forward=512, heads=4, head_width=32, demo=True)


SHAPES = {
    "esm2-8m": _esm2(6, 320, 20),
    "esm2-35m": _esm2(12, 480, 20),
    "esm2-150m": _esm2(30, 640, 20),
    "esm2-650m": _esm2(33, 1280, 20),
    "igt5-2": _igt5(2),
    "igt5": _igt5(24),
    "demo-esm2": _demo("esm2"),
    "demo-igt5": _demo("igt5"),
}
"""By name; the sizes are those of facebook/esm2_t6_8M, t12_35M, t30_150M and t33_650M and of Exscientia/IgT5."""
