"""The ten optimisations, in the order of the ladder, and which of them cannot matter on a machine."""

from dataclasses import dataclass
from enum import StrEnum


class Optimisation(StrEnum):
    """What makes training affordable, one idea each."""

    BATCHED = "batched embedding"
    PACKED = "packing"
    CHECKPOINTED = "activation checkpointing"
    INT8 = "INT8"
    FAST_TOKENS = "fast tokenising"
    COMPILED = "compiled regressor"
    CUDNN = "cuDNN benchmark"
    WIDE_VALIDATION = "larger validation batch"
    ASYNC_SAVES = "asynchronous checkpoints"
    PINNED = "pinned memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides which optimisations can matter."""

    device: str
    """Where the encoders run: `cpu`, `cuda` or `cuda:N`."""
    name: str
    """Of the device, for the reader."""
    threads: int
    convolutions: int
    """Convolution layers in both encoders and the regressor."""
    compiler: bool
    """Whether there is a C++ compiler."""


def cannot_matter(optimisation: Optimisation, machine: Machine) -> str | None:
    """Say why an optimisation changes nothing on a machine; None where it can."""
    if optimisation is Optimisation.CUDNN and not machine.convolutions:
        return "it chooses among convolutions, and these networks have none"
    if optimisation is Optimisation.PINNED and machine.device == "cpu":
        return "there is no CUDA device to copy to"
    if optimisation is Optimisation.COMPILED and not machine.compiler:
        return "there is no C++ compiler (g++ or $CXX)"
    return None
