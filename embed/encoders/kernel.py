"""Our kernels for this machine's CPU: built once by the C++ compiler, kept in the user's own cache, called from torch.

Shape suffixes: M rows, K inputs, N outputs, T terms or tokens, S sequences, H heads, D width of a head.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Activation = Literal["none", "relu", "gelu"]

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("int8.cpp", "attention.cpp"))
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")
_DEPTH = 4
_PANEL = 64
_OFFSET = 128
_ACTIVATIONS: dict[Activation, int] = {"none": 0, "relu": 1, "gelu": 2}


class Packed(NamedTuple):
    """Weights of a layer as the kernel reads them."""

    weight: Tensor
    """uint8 `[N / 64, K / 4, 64, 4]`, w + 128, padded with w = 0."""
    scale_N: Tensor
    bias_N: Tensor | None
    inputs: int
    outputs: int


class Kernel:
    """INT8 products and float32 attention in which nothing depends on the neighbours of a row or a sequence."""

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        pointer: Any = ctypes.c_void_p
        long, number = ctypes.c_long, ctypes.c_int
        self._linear, self._attend = loaded.bindcache_linear, loaded.bindcache_attend
        self._linear.argtypes = [pointer, long, *[pointer] * 5, long, long, number, number, number]
        strided = [pointer, long, long]
        sizes = [pointer, long, long, long, ctypes.c_float, *[pointer] * 3, long, number]
        self._attend.argtypes = [*strided * 3, pointer, *sizes]
        self._linear.restype = self._attend.restype = None

    def pack(self, quantised_NK: Tensor, scale_N: Tensor, bias_N: Tensor | None) -> Packed:
        """Lay int8 `[N, K]` weights out for the kernel; scale and bias are float32 `[N]`."""
        outputs, inputs = quantised_NK.shape
        padded_NK = torch.nn.functional.pad(quantised_NK, (0, -inputs % _DEPTH, 0, -outputs % _PANEL))
        raised_NK = (padded_NK.to(torch.int16) + _OFFSET).to(torch.uint8)
        panels = raised_NK.view(raised_NK.shape[0] // _PANEL, _PANEL, -1, _DEPTH).permute(0, 2, 1, 3).contiguous()
        return Packed(panels, scale_N.contiguous(), None if bias_N is None else bias_N.contiguous(), inputs, outputs)

    def linear(
        self, x_MK: Tensor, layer: Packed, terms: int, activation: Activation, residual_MN: Tensor | None
    ) -> Tensor:
        """Compute `activation(x W^T + b) + residual`.

        Args:
            x_MK: float32.
            layer: The weights.
            terms: 1 or 2 int8 terms of each activation.
            activation: Applied to the product with its bias.
            residual_MN: Added last, float32.

        Returns:
            float32 `[M, N]`.
        """
        x_MK = x_MK.contiguous()
        residual_MN = None if residual_MN is None else residual_MN.contiguous()
        rows = x_MK.shape[0]
        y_MN = torch.empty(rows, layer.outputs)
        self._linear(
            x_MK.data_ptr(),
            rows,
            layer.weight.data_ptr(),
            layer.scale_N.data_ptr(),
            None if layer.bias_N is None else layer.bias_N.data_ptr(),
            None if residual_MN is None else residual_MN.data_ptr(),
            y_MN.data_ptr(),
            layer.inputs,
            layer.outputs,
            terms,
            _ACTIVATIONS[activation],
            torch.get_num_threads(),
        )
        return y_MN

    def attend(
        self,
        query_THD: Tensor,
        key_THD: Tensor,
        value_THD: Tensor,
        starts: Tensor,
        scale: float,
        turn_2PD: Tensor | None,
        bias_HE: Tensor | None,
    ) -> Tensor:
        """Attend within each of several sequences that lie end to end.

        Args:
            query_THD: float32, its last dimension contiguous.
            key_THD: Likewise.
            value_THD: Likewise.
            starts: First token of each sequence and the end of the last one, int64 `[S + 1]`.
            scale: Factor of the scores.
            turn_2PD: Cosine and sine by place in a sequence that turn queries and keys, float32.
            bias_HE: Added to the scores by distance, float32: column `E // 2 + key - query`.

        Returns:
            float32 `[T, H, D]`, contiguous.
        """
        y_THD = torch.empty(query_THD.shape)
        _, heads, width = query_THD.shape
        span = 0 if bias_HE is None else bias_HE.shape[1] // 2 + 1
        strided = [
            argument
            for x_THD in (query_THD, key_THD, value_THD)
            for argument in (x_THD.data_ptr(), x_THD.stride(0), x_THD.stride(1))
        ]
        bias = None if bias_HE is None else bias_HE.data_ptr()
        threads = torch.get_num_threads()
        cos, sin = (None, None) if turn_2PD is None else (turn_2PD[0].data_ptr(), turn_2PD[1].data_ptr())
        sizes = (starts.data_ptr(), len(starts) - 1, heads, width, scale, cos, sin, bias, span, threads)
        self._attend(*strided, y_THD.data_ptr(), *sizes)
        return y_THD


@functools.cache
def find_kernel() -> tuple[Kernel | None, str]:
    """Build or find the kernel of this machine; without one, tell why."""
    if not torch.cpu.get_capabilities().get("avx512_vnni"):
        return None, "this CPU has no AVX-512 VNNI"
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        return None, "no C++ compiler (g++ or $CXX) was found"
    library = _cache_folder() / f"kernels-{_identity(compiler)}.so"
    try:
        if not library.exists():
            _build(compiler, library)
        return Kernel(library), ""
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{compiler} could not build it ({_first_line(error)})"


def _identity(compiler: str) -> str:
    """Digest what decides the machine code, so that a home shared by unlike machines serves each its own."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    cpu = [platform.machine(), *sorted(name for name, has in torch.cpu.get_capabilities().items() if has)]
    whole = hashlib.sha256()
    for part in (*(source.read_bytes() for source in _SOURCES), version, repr(cpu).encode(), repr(_FLAGS).encode()):
        whole.update(part)
    return whole.hexdigest()[:24]


def _cache_folder() -> Path:
    """Name a folder that only this user can write, as what lies in it is run."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "bindcache"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        private = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if private and os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="bindcache-"))


def _build(compiler: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        part = Path(folder) / library.name
        command = [compiler, *_FLAGS, *map(str, _SOURCES), "-o", str(part)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        part.replace(library)


def _first_line(error: Exception) -> str:
    said = error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else str(error)
    return (said.splitlines() or [type(error).__name__])[0]
