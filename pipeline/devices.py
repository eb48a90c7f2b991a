"""What the processes of this machine may compute on, told without torch."""

import os
import subprocess
from collections.abc import Sequence


def visible_gpus() -> Sequence[str]:
    """List the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip()]
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def processors() -> int:
    """Count the processors that this process may use; a task of Slurm those that it was given."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isdecimal():
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
