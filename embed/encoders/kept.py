"""The INT8 form of an encoder, kept in the user's cache: weights are quantised once and loaded quantised.

A kept file is mapped, so that all processes of a machine share its pages.
"""

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embed.encoders.kernel import find_kernel
from embed.private import private_cache
from embed.store.durable import temporary_name

_LAYOUT = 1
"""Raised whenever what lies in a kept file, or how it came about, changes."""

_ROOM = 4
"""A file is kept where the disk has so many times its bytes."""

_LEAST = 2**25
"""Bytes of a model below which quantising it takes no longer than finding its file."""


def kept_file(weights: str, device: torch.device) -> Path | None:
    """Name the file of an encoder's INT8 form; None where nothing can be kept.

    Args:
        weights: Digest of the float weights.
        device: Where it will compute, which decides how weights lie.
    """
    folder = private_cache()
    if folder is None or not weights:
        return None
    layout = "cuda" if device.type == "cuda" else "plain" if find_kernel()[0] is None else "panels"
    return folder / f"int8-{weights[:24]}-{layout}{_LAYOUT}-torch{torch.__version__.partition('+')[0]}.safetensors"


def keep(model: nn.Module, file: Path | None) -> None:
    """Keep a quantised model where that pays and the disk has room; a file is there whole or not at all."""
    tensors = {name: tensor.detach() for name, tensor in _tensors(model).items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    if file is None or size < _LEAST:
        return
    temporary = file.with_name(temporary_name())
    with suppress(OSError, SafetensorError):
        if shutil.disk_usage(file.parent).free < _ROOM * size:
            return
        try:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary)
            _digest_file(file).write_text(_digest(temporary))
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def recall(model: nn.Module, file: Path) -> bool:
    """Fill a quantised model without weights (on `meta`) from its kept file; False where that does not serve."""
    try:
        if _digest(file) != _digest_file(file).read_text():
            return False
        kept = load_file(file)
    except (OSError, SafetensorError):
        return False
    wanted = _tensors(model)
    if {name: (t.shape, t.dtype) for name, t in kept.items()} != {n: (t.shape, t.dtype) for n, t in wanted.items()}:
        return False
    filled: dict[int, Tensor] = {}
    for name, tensor in wanted.items():
        parameter = isinstance(tensor, nn.Parameter)
        filled[id(tensor)] = nn.Parameter(kept[name], requires_grad=False) if parameter else kept[name]
    for module in model.modules():
        places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for place in places:
            # one tensor that two modules share stays one
            place.update({name: filled[id(tensor)] for name, tensor in place.items() if tensor is not None})
    return True


def _digest_file(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """List parameters and buffers, those too that a state dict leaves out; shared ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
