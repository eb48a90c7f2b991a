"""Processors, GPUs, memory, compiler: what the machine has, told without torch."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pipeline.devices import processors, visible_gpus
from pipeline.doctor.findings import Finding
from pipeline.output import human_bytes

_LITTLE_MEMORY = 8e9
_VNNI = "avx512_vnni"


def look_at_machine() -> Iterator[Finding]:
    """Check what the encoders compute on."""
    yield _device()
    yield _memory(available_memory())
    yield _cpu(_cpu_flags())
    yield _compiler(shutil.which(os.environ.get("CXX", "g++")))


def available_memory() -> int | None:
    """Tell the bytes of memory that programs may still take, as Linux estimates it; None elsewhere."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _device() -> Finding:
    gpus, count = visible_gpus(), processors()
    cpus = f"{count} processor{'s' * (count != 1)}"
    if not gpus:
        said = f"no NVIDIA GPU; {cpus} of {platform.machine()}"
        if count == 1:
            return Finding(name="device", verdict="warning", said=said, next_step="give it more processors")
        return Finding(name="device", verdict="ok", said=said)
    query = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split("\n")
    except (OSError, subprocess.SubprocessError):
        step = "check `nvidia-smi`, or unset CUDA_VISIBLE_DEVICES"
        return Finding(name="device", verdict="warning", said=f"GPU {', '.join(gpus)} does not answer", next_step=step)
    return Finding(name="device", verdict="ok", said=f"{'; '.join(filter(None, told))}; {cpus}")


def _memory(free: int | None) -> Finding:
    if free is None:
        return Finding(name="memory", verdict="ok", said="not told by this system")
    said = f"{human_bytes(free)} available"
    if free < _LITTLE_MEMORY:
        step = "close other programs, or use a machine with more: the real encoders need 8 GB or more"
        return Finding(name="memory", verdict="warning", said=said, next_step=step)
    return Finding(name="memory", verdict="ok", said=said)


def _cpu_flags() -> set[str] | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = [line.partition(":")[2].split() for line in lines if line.startswith("flags")]
    return set(flags[0]) if flags else None


def _cpu(flags: set[str] | None) -> Finding:
    if flags is not None and _VNNI in flags:
        return Finding(name="CPU", verdict="ok", said="has AVX-512 VNNI, which the INT8 kernels use")
    said = "no AVX-512 VNNI, so INT8 runs through torch, slower"
    step = 'nothing on a GPU; on this CPU compare embed.precision = "fp32" with `bindcache bench --ladder`'
    return Finding(name="CPU", verdict="warning", said=said, next_step=step)


def _compiler(compiler: str | None) -> Finding:
    if compiler is None:
        said = "no C++ compiler (g++ or $CXX): no kernels for this CPU, no torch.compile"
        return Finding(name="compiler", verdict="warning", said=said, next_step="install g++ (apt install g++)")
    return Finding(name="compiler", verdict="ok", said=compiler)
