"""What speeds training up: the device, bf16 and `torch.compile`, chosen from the config and the machine."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from embed.native import find_compiler
from train.errors import TrainError

_COMPILE_PAYS_STEPS = 100_000
"""Batches of a training from which compiling pays on CUDA: about 30 s against about 0.3 ms a batch."""

_DISTINCT_SHARE = 0.5
"""Training antigens, in batches, up to which the first layer reads them once per batch rather than once per pair.

Measured: it saves time up to 0.7 of a batch (benchmarks/NOTES.md); half is on the safe side.
"""

Mode = Literal["default", "max-autotune", "max-autotune-no-cudagraphs"]


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that is there.

    Raises:
        TrainError: There is no such CUDA device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainError(
            f'train.device = {name!r}, but {torch.cuda.device_count()} CUDA devices are visible; use "auto" or "cpu".'
        )
    return device


def uses_bf16(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> bool:
    """Tell whether training runs under bf16 autocast; `auto` takes it where the device has it natively."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def has_compiler() -> bool:
    """Tell whether there is the C++ compiler that `torch.compile` calls."""
    return find_compiler() is not None


def compile_mode(
    asked: Literal["auto", "off", "default", "max-autotune"],
    *,
    device: torch.device,
    batches: int,
    accumulation: int,
    compiler: bool,
    residues: bool = False,
) -> tuple[Mode | None, str]:
    """Decide how the regressor is compiled (None: not at all), and say why.

    The CUDA graphs that `max-autotune` brings sum wrong gradients over accumulated batches (pytorch #96693).

    Args:
        asked: The config's wish.
        device: Where training runs.
        batches: Batches of the whole training.
        accumulation: Batches of one optimizer step.
        compiler: Whether there is a C++ compiler.
        residues: Whether vectors of residues are read, in batches of ever other shapes.

    Raises:
        TrainError: Compiling is asked for and cannot be.
    """
    if asked == "off":
        return None, "as asked"
    if residues:
        if asked == "auto":
            return None, "residues come in batches of ever other shapes"
        raise TrainError(
            f'train.compile = "{asked}" is for batches of one shape, which those of residues are not; use "auto".'
        )
    if asked == "auto" and device.type == "cpu":
        return None, "a compiled batch is no faster on the CPU"
    if asked == "auto" and batches < _COMPILE_PAYS_STEPS:
        return None, "the training is too short to win the compile time back"
    if not compiler:
        if asked == "auto":
            return None, "no C++ compiler (g++ or $CXX) found"
        raise TrainError(
            f"train.compile = {asked!r} needs a C++ compiler and none was found; install g++ or set "
            'train.compile = "off".'
        )
    if asked == "max-autotune":
        return ("max-autotune" if accumulation == 1 else "max-autotune-no-cudagraphs"), "as asked"
    return "default", "as asked" if asked == "default" else "the training is long enough"


def antigens_apart(count_U: npt.NDArray[np.int64], batch_size: int) -> tuple[bool, str]:
    """Decide whether a training batch computes the antigen half of the first layer once per antigen, and say why.

    Both ways give the same sums, in another order. All training antigens then go into every batch, so that its shape
    stays; where they are many, a batch has hardly fewer distinct antigens than pairs.

    Args:
        count_U: Training pairs of each antigen.
        batch_size: Pairs of a batch.
    """
    antigens = int(np.count_nonzero(count_U))
    if antigens <= _DISTINCT_SHARE * batch_size:
        return True, f"once per antigen: {antigens} for each batch of {batch_size} pairs"
    expected = float(np.sum(1 - (1 - count_U / count_U.sum()) ** batch_size))
    return False, (
        f"once per pair in training, where a batch of {batch_size} has about {expected:.0f} distinct of "
        f"{antigens:,} antigens; once per antigen in validation and prediction"
    )
