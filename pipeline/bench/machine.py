"""What a measurement ran on."""

import platform
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.bench.optimisations import Machine
from train.acceleration import has_compiler


def machine_of(device: torch.device, models: Iterable[torch.nn.Module]) -> dict[str, Any]:
    """Describe the device and what in the models depends on it, as the fields of a `Machine`."""
    convolution = torch.nn.modules.conv._ConvNd
    return asdict(
        Machine(
            device=str(device),
            name=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
            threads=torch.get_num_threads(),
            convolutions=sum(isinstance(part, convolution) for model in models for part in model.modules()),
            compiler=has_compiler(),
        )
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
