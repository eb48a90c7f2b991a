"""Where the vectors wait during training: on the device, in host memory, or in the shards."""

import os
from pathlib import Path
from typing import Literal

import torch

Placement = Literal["device", "pinned", "mapped"]

_DEVICE_SHARE = 0.6
_HOST_SHARE = 0.5


def choose_placement(*, nbytes: int, free_device_bytes: int, available_host_bytes: int, device_kind: str) -> Placement:
    """Choose the fastest placement that fits in 60 % of free device memory or 50 % of available host memory.

    Args:
        nbytes: What the prepared vectors take.
        free_device_bytes: Free memory of the device; unused for the CPU.
        available_host_bytes: Memory that this process may still take.
        device_kind: `cpu` or `cuda`.
    """
    fits_host = nbytes <= _HOST_SHARE * available_host_bytes
    if device_kind == "cpu":
        return "device" if fits_host else "mapped"
    if nbytes <= _DEVICE_SHARE * free_device_bytes:
        return "device"
    return "pinned" if fits_host else "mapped"


def find_placement(nbytes: int, device: torch.device) -> Placement:
    """Choose where prepared vectors wait on this machine, as it is now."""
    return choose_placement(
        nbytes=nbytes,
        free_device_bytes=free_device_bytes(device),
        available_host_bytes=available_host_bytes(),
        device_kind=device.type,
    )


def free_device_bytes(device: torch.device) -> int:
    """Tell the free memory of a CUDA device; 0 for the CPU."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def available_host_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Tell the memory this process may still take: the machine's, or less where a control group limits it."""
    try:
        meminfo = (proc / "meminfo").read_text()
    except FileNotFoundError:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fields = dict(line.split(":", 1) for line in meminfo.splitlines())
    machine = int(fields["MemAvailable"].split()[0]) * 1024
    return max(0, min([machine, *_group_allowances(proc, cgroups)]))


def _group_allowances(proc: Path, cgroups: Path) -> list[int]:
    """List limit minus use of the process's control group and those above it, version 1 or 2."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number == "0":
            root, limit, used, cache = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, cache = cgroups / "memory", "total_inactive_file"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        own = Path(path.lstrip("/"))
        for folder in (root / own, *(root / above for above in own.parents)):
            found += _allowance(folder / limit, folder / used, folder / "memory.stat", cache)
    return found


def _allowance(limit: Path, used: Path, stat: Path, cache: str) -> list[int]:
    """Read one group's limit minus its use, dropping file cache; empty without a limit."""
    try:
        text = limit.read_text().strip()
        if text == "max":
            return []
        counts = dict(line.split() for line in stat.read_text().splitlines())
        return [int(text) - int(used.read_text()) + int(counts.get(cache, 0))]
    except OSError:  # a group that this namespace does not show
        return []
