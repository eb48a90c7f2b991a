"""Measure one linear layer in INT8 by who computes it: `python -m benchmarks.products`.

torchao takes part where it is installed.

Shape suffixes: M rows, K inputs, N outputs.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable

import click
import torch
from torch import Tensor, nn

from embed.encoders import quantize
from pipeline.bench.standins import standing_in

_ROWS = 1536
_LAYERS = {
    "ESM-2 150M, in": (640, 2560),
    "ESM-2 150M, out": (2560, 640),
    "IgT5, in": (1024, 16384),
    "IgT5, out": (16384, 1024),
}
_SECONDS = 0.3
"""Of each contestant in each round."""

Product = Callable[[Tensor], Tensor]


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Times that each runs.")
def main(rounds: int) -> None:
    """Print GOP/s of each contestant: medians of alternating rounds, two operations for each multiply-add and term."""
    for name, (inputs, outputs) in _LAYERS.items():
        x_MK = torch.randn(_ROWS, inputs)
        contestants = _contestants(nn.Linear(inputs, outputs).eval().requires_grad_(False))
        with torch.inference_mode():
            for product, _ in contestants.values():
                product(x_MK)  # compiles
            rates: dict[str, list[float]] = {who: [] for who in contestants}
            for _ in range(rounds):
                for who, (product, terms) in contestants.items():
                    rates[who].append(2 * terms * x_MK.numel() * outputs / _once(product, x_MK) / 1e9)
        click.echo(f"{name} ({_ROWS} rows, {inputs} to {outputs})")
        for who, values in rates.items():
            click.echo(f"  {who:40} {statistics.median(values):7,.0f} GOP/s")


def _contestants(linear: nn.Linear) -> dict[str, tuple[Product, int]]:
    """Build each form of a layer, with the int8 products that it makes of one."""
    device = torch.device("cpu")
    with standing_in(quantize, "find_kernel", lambda: (None, "left out")):
        plain = [quantize.Int8Linear([linear], terms=terms, device=device) for terms in (1, 2)]
    half = nn.Linear(linear.in_features, linear.out_features).bfloat16()
    found: dict[str, tuple[Product, int]] = {
        "ours, one term": (quantize.Int8Linear([linear], terms=1, device=device), 1),
        "ours, two terms": (quantize.Int8Linear([linear], terms=2, device=device), 2),
        "torch, one term, eager": (plain[0], 1),
        "torch, one term, compiled": (torch.compile(plain[0]), 1),
        "torch, two terms, compiled": (torch.compile(plain[1]), 2),
        "bf16 (input and output bf16)": (lambda x_MK, half=half: half(x_MK.bfloat16()), 1),  # type: ignore[misc]
    }
    if importlib.util.find_spec("torchao"):
        found["torchao, one term, compiled"] = (_torchao(linear), 1)
    return found


def _torchao(linear: nn.Linear) -> Product:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    layer = nn.Sequential(nn.Linear(linear.in_features, linear.out_features)).eval().requires_grad_(False)
    layer[0].load_state_dict(linear.state_dict())
    quantize_(layer, Int8DynamicActivationInt8WeightConfig())
    compiled: Product = torch.compile(layer)
    return compiled


def _once(product: Product, x_MK: Tensor) -> float:
    """Time a product: the seconds of one call, of as many as fit."""
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        product(x_MK)
        calls += 1
    return (time.perf_counter() - started) / calls


if __name__ == "__main__":
    main()
