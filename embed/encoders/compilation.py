"""Whether an encoder's layers go through `torch.compile`, decided from the work ahead against what compiling costs."""

from typing import Any, Literal

import torch

_COST_SECONDS = 60
"""Compiling one kind of layer, twice: its shape, then the lengths of its runs as a variable."""
_RATE = 1e14
"""Operations a second of an uncompiled INT8 encoder on a current data-centre GPU; not measured yet."""
_SAVED = 0.5
"""Share of the time that fused quantisation saves there (bandwidth model, benchmarks/NOTES.md); not measured yet."""


def compile_pays(
    asked: Literal["auto", "on", "off"], *, device: torch.device, parameters: int, tokens: int
) -> tuple[bool, str]:
    """Decide whether to compile, and say why.

    Args:
        asked: The config's wish.
        device: Where the encoder computes.
        parameters: Of its layers.
        tokens: To be read.
    """
    if asked != "auto":
        return asked == "on", "as asked"
    if device.type == "cpu":
        return False, "the CPU has kernels of its own"
    seconds = 2 * parameters * tokens / _RATE
    if seconds * _SAVED > _COST_SECONDS:
        return True, f"about {seconds:.0f} s of work"
    return False, f"about {seconds:.0f} s of work do not win {_COST_SECONDS} s back"


def compile_layers(layers: Any) -> None:  # noqa: ANN401 (an nn.ModuleList of either family)
    """Compile each layer of an encoder in place; they share one graph, made at the first batches."""
    for layer in layers:
        layer.compile()
