"""On what a measurement was taken, as its record has to say."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
)
"""CPU features that decide how fast INT8 and bf16 are."""
_LIBRARIES = ("torch", "transformers", "bitsandbytes", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The computer, its software and this checkout."""

    cpu: str
    cores: int
    """That this process may use."""
    flags: tuple[str, ...]
    memory_bytes: int
    load: float
    """Average of the last minute when the measurement began: over a few tenths, others compute here too."""
    python: str
    versions: dict[str, str]
    accelerator: str = ""
    """The GPU, where one computed."""
    commit: str
    """With `+` where files differ from it."""


def describe() -> Machine:
    """Describe this machine."""
    info = _cpuinfo()
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", info, re.M)
    present = set(flags[1].split()) if flags else set()
    model = re.search(r"^model name\s*: (.*)$", info, re.M)
    return Machine(
        cpu=model[1] if model else platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        flags=tuple(flag for flag in _FLAGS if flag in present),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        load=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
        versions={name: version(name) for name in _LIBRARIES},
        commit=_commit(),
    )


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8") if path.is_file() else ""


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
