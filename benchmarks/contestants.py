"""Who runs, and how each is started."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from benchmarks.shapes import Family
from embed.config import Precision

Rate = Literal["int8", "fp16", "bf16", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One row of the table."""

    name: str
    says: str
    """What it is, in words."""
    module: str
    """Run as `python -m`."""
    rate: Rate
    """Arithmetic of its linear layers."""
    products: int = 1
    """Matrix products for each linear layer."""
    asks: Mapping[str, object] = field(default_factory=dict)
    """What its process is told besides the checkpoint."""
    peer: str = ""
    """Environment under `build/peers` that has it; empty for this one."""
    families: tuple[Family, ...] = ("esm2", "igt5")


BUDGETS = (1024, 2048, 4096)
"""Padded tokens a batch that the honest baseline is tried with on a CPU."""

GPU_BUDGETS = (16384, 65536)
"""Likewise on a GPU."""

REFERENCE = "ours-fp32"
"""Whose vectors the others' are compared with."""

_OURS = "benchmarks.ours"
_HF = "benchmarks.hugging_face"
_RATE: dict[str, tuple[Rate, int]] = {
    "int8": ("int8", 2),
    "int8-fast": ("int8", 1),
    "int8-bnb": ("int8", 1),
    "bf16": ("bf16", 1),
    "fp16": ("fp16", 1),
    "fp32": ("fp32", 1),
}
"""By precision of ours."""


def _single(precision: Rate) -> Contestant:
    return Contestant(
        name=f"hf-single-{precision}",
        says=f"Hugging Face {precision}, one sequence at a time",
        module=_HF,
        rate=precision,
        asks={"precision": precision, "rows": 1},
    )


def _sorted(precision: Rate, budget: int) -> Contestant:
    return Contestant(
        name=f"hf-sorted-{budget}",
        says=f"Hugging Face {precision}, sorted, batches of {budget:,} tokens",
        module=_HF,
        rate=precision,
        asks={"precision": precision, "budget": budget},
    )


def _esm_cpp(precision: Rate) -> Contestant:
    return Contestant(
        name=f"esm-cpp-{precision}",
        says=f"esm-cpp 0.2.1 {precision.upper()}, packed",
        module="benchmarks.peers.esm_cpp_worker",
        rate=precision,
        asks={"precision": precision},
        peer="esm-cpp",
        families=("esm2",),
    )


def _ours(precision: Precision) -> Contestant:
    rate, products = _RATE[precision]
    return Contestant(
        name=f"ours-{precision}",
        says=f"bindcache `{precision}`",
        module=_OURS,
        rate=rate,
        products=products,
        asks={"precision": precision},
    )


_TWELVE = Contestant(
    name="hf-twelve-bf16",
    says="Hugging Face bf16, twelve per batch, padded, in file order",
    module=_HF,
    rate="bf16",
    asks={"precision": "bf16", "rows": 12},
)
_BIOTRAINER = Contestant(
    name="biotrainer",
    says="biotrainer 1.4.0, fp32",
    module="benchmarks.peers.biotrainer_worker",
    rate="fp32",
    peer="biotrainer",
    families=("esm2",),
)

CONTESTANTS: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        _single("fp32"),
        _single("bf16"),
        _TWELVE,
        *(_sorted("bf16", budget) for budget in BUDGETS),
        _BIOTRAINER,
        _esm_cpp("fp32"),
        _esm_cpp("int8"),
        *(_ours(precision) for precision in get_args(Precision)),
    )
}
"""By name, in the order of the table."""


def on_gpu() -> list[Contestant]:
    """Who runs on a GPU: larger batches, fp16, packed rows under FlashAttention, and no engine made for CPUs."""
    varlen = Contestant(
        name="hf-varlen",
        says="Hugging Face bf16, FlashAttention varlen (as FAESM and esm-efficient)",
        module="benchmarks.varlen",
        rate="bf16",
        asks={"precision": "bf16", "budget": GPU_BUDGETS[-1]},
    )
    usual = (_single("bf16"), _TWELVE, *(_sorted("bf16", budget) for budget in GPU_BUDGETS), varlen)
    return [*usual, *(_ours(precision) for precision in get_args(Precision))]


def is_baseline(name: str) -> bool:
    """Tell whether a contestant is the honest baseline at one of its budgets."""
    return name.startswith("hf-sorted-")
