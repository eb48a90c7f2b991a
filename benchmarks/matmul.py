"""Contestant that encodes nothing: the rate of one large matrix product in each arithmetic."""

import time
from typing import Any

import torch

from benchmarks.serving import Contestant, Sequences, serve

Rates = dict[str, float]
"""Operations (two for each multiply-add) a second, by arithmetic."""


class Matmul(Contestant):
    """Square products of `edge`; the rates stand in the notes.

    Asked for: `edge`, `device`.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self._edge, self._device = asked["edge"], torch.device(asked["device"])

    def encode(self, sequences: Sequences) -> None:
        """Measure once more."""
        self.notes = dict(rates(self._edge, self._device))


def rates(edge: int, device: torch.device) -> Rates:
    """Time a product of each arithmetic; the first call warms up.

    Args:
        edge: Rows and columns of both matrices.
        device: Where.
    """
    floats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if device.type == "cuda":
        floats["fp16"] = torch.float16
    measured = {}
    for name, dtype in floats.items():
        a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
        measured[name] = _rate(torch.mm, a, b)
    a, b = (torch.randint(-127, 128, (edge, edge), dtype=torch.int8, device=device) for _ in range(2))
    # the second transposed, as a linear layer's weight is
    measured["int8"] = _rate(torch._int_mm, a, b.t())
    return measured


def _rate(product: Any, a: torch.Tensor, b: torch.Tensor) -> float:  # noqa: ANN401
    times = []
    for _ in range(20 if a.is_cuda else 1):
        started = time.perf_counter()
        product(a, b)
        if a.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * a.shape[0] ** 3 / min(times)


if __name__ == "__main__":
    serve(Matmul)
