"""C++ for this machine's CPU: built once by the compiler, kept in the user's own cache, loaded."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from embed.private import private_cache

_FLAGS = ("-O3", "-fno-math-errno", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")


def load_native(sources: Sequence[Path], *, needs: str | None = None) -> tuple[ctypes.CDLL | None, str]:
    """Load the library of these sources, and build it first where it is not in the cache; if it cannot be, tell why.

    Args:
        sources: C++ files.
        needs: What the CPU must have, by torch's name for it.
    """
    if not _fits(needs):
        return None, f"this CPU has no {str(needs).upper().replace('_', ' ').replace('AVX512', 'AVX-512')}"
    compiler = find_compiler()
    if compiler is None:
        return None, "no C++ compiler (g++ or $CXX) was found"
    library = _library(compiler, sources)
    try:
        if not library.exists():
            _build(compiler, sources, library)
        return ctypes.CDLL(str(library)), ""
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{compiler} could not build it ({_first_line(error)})"


def must_build(sources: Sequence[Path], *, needs: str | None = None) -> bool:
    """Tell whether `load_native` would build a library now, which takes some seconds; arguments as there."""
    compiler = find_compiler()
    return compiler is not None and _fits(needs) and not _library(compiler, sources).exists()


def find_compiler() -> str | None:
    """Find the C++ compiler, the one that `torch.compile` calls too."""
    return shutil.which(os.environ.get("CXX", "g++"))


def _fits(needs: str | None) -> bool:
    return needs is None or bool(torch.cpu.get_capabilities().get(needs))


def _library(compiler: str, sources: Sequence[Path]) -> Path:
    return (private_cache() or _folder_of_this_process()) / f"kernels-{_identity(compiler, sources)}.so"


@functools.cache
def _folder_of_this_process() -> Path:
    return Path(tempfile.mkdtemp(prefix="bindcache-"))


def _identity(compiler: str, sources: Sequence[Path]) -> str:
    """Digest what decides the machine code, so that a home shared by unlike machines serves each its own."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    cpu = [platform.machine(), *sorted(name for name, has in torch.cpu.get_capabilities().items() if has)]
    whole = hashlib.sha256()
    for part in (*(source.read_bytes() for source in sources), version, repr(cpu).encode(), repr(_FLAGS).encode()):
        whole.update(part)
    return whole.hexdigest()[:24]


def _build(compiler: str, sources: Sequence[Path], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        part = Path(folder) / library.name
        command = [compiler, *_FLAGS, *map(str, sources), "-o", str(part)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        part.replace(library)


def _first_line(error: Exception) -> str:
    said = error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else str(error)
    return (said.splitlines() or [type(error).__name__])[0]
