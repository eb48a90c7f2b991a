"""Measure encoders against each other: `python -m benchmarks.encoders --work esm2-150m`.

This process only asks and writes down; whoever encodes does it in a process of its own.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.contestants import CONTESTANTS, REFERENCE, Contestant
from benchmarks.machine import describe
from benchmarks.measuring import Measured, measure
from benchmarks.processes import ROOT
from benchmarks.report import Record, markdown, today, write
from benchmarks.scoring import Work, score
from benchmarks.shapes import SHAPES, Shape
from benchmarks.workloads import Workload, antibodies, antigens, workload

RESULTS = ROOT / "benchmarks" / "results"
CHECKPOINTS = ROOT / "build" / "bench"
OTHER = {"esm2": "demo-igt5", "igt5": "demo-esm2"}
"""What stands in for the encoder of the other family, which a config must name and nothing reads."""

_MATMUL = Contestant(name="matmul", says="", module="benchmarks.matmul", rate="fp32")
_LARGEST_EDGE = 4096

_BEST = ("hf-sorted-1024", "hf-sorted-2048", "hf-sorted-4096", "ours-int8", "ours-int8-fast", "ours-bf16", "ours-fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One work."""

    shape: str
    says: str
    sequences: int
    """Of the table, so that `make bench` ends in about ten minutes on two cores."""
    of: int | None = None
    """Of the table at most, before sampling."""
    contestants: tuple[str, ...] = tuple(CONTESTANTS)


PLANS = {
    "esm2-8m": Plan(shape="esm2-8m", says="Antigens through ESM-2 8M, random weights: a quick look.", sequences=24),
    "esm2-35m": Plan(shape="esm2-35m", says="Antigens through ESM-2 35M, random weights.", sequences=24),
    "esm2-150m": Plan(
        shape="esm2-150m",
        says="Antigens through ESM-2 150M, random weights.",
        sequences=16,
        contestants=("hf-single-bf16", "esm-cpp-int8", *_BEST),
    ),
    "igt5": Plan(
        shape="igt5-2",
        says="Antibodies (heavy and light) through two layers of IgT5's shape, random weights.",
        sequences=24,
        of=500,
        contestants=("hf-single-bf16", "hf-twelve-bf16", *_BEST),
    ),
    "ch65-demo": Plan(
        shape="demo-igt5",
        says="Antibodies through the demo's encoder (two layers, d 128).",
        sequences=1500,
        contestants=_BEST,
    ),
}


@click.command()
@click.option("--work", type=click.Choice(list(PLANS)), required=True, help="What is encoded by what.")
@click.option("--contestants", "names", default="", help="Names with commas between; the work's own by default.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Times that each runs.")
@click.option("--sequences", type=click.IntRange(2), help="Sequences of the large table.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="BINDCACHE_BENCH_DATA",
    help="Folder of the real tables; a built-in table without it. Or BINDCACHE_BENCH_DATA.",
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the records.")
@click.option("--checkpoints", type=click.Path(path_type=Path), default=CHECKPOINTS, help="Folder of the encoders.")
def main(
    work: str, names: str, rounds: int, sequences: int | None, data: Path | None, results: Path, checkpoints: Path
) -> None:
    """Measure encoders against each other and write the record."""
    plan = PLANS[work]
    contestants = _chosen(names, plan, SHAPES[plan.shape])
    tables = _tables(plan, data, sequences or plan.sequences)
    machine = describe()
    asked = _asked(plan, tables, checkpoints)
    with tempfile.TemporaryDirectory(prefix="bindcache-bench-") as folder:
        asked["store"] = folder
        *measured, matmul = measure(
            [*contestants, _MATMUL], asked, rounds, Path(folder), progress(), without_vectors=[_MATMUL.name]
        )
    rates = _rates(matmul)
    rows, baseline = score(measured, work_of(SHAPES[plan.shape], tables), rates)
    record = Record(
        work=work,
        says=plan.says,
        command=_command(work, names, rounds, len(tables.large)),
        date=today(),
        machine=machine,
        rounds=rounds,
        table=tables.source,
        sequences={"whole": tables.whole, "large": len(tables.large), "small": len(tables.small)},
        residues=dict(zip(("large", "small"), tables.residues, strict=True)),
        weights=SHAPES[plan.shape].weights,
        matmul=rates,
        matmul_edge=asked["edge"],
        baseline=baseline,
        rows=rows,
    )
    click.echo(f"{write(record, results)}", err=True)
    click.echo(markdown(record))
    if any(result.failed for result in measured):
        sys.exit(1)


def _chosen(names: str, plan: Plan, shape: Shape) -> list[Contestant]:
    """Find the contestants by name, in the order of the table; the reference of fidelity always runs."""
    wanted = {REFERENCE, *(names.split(",") if names else plan.contestants)}
    if unknown := sorted(wanted - set(CONTESTANTS)):
        raise click.UsageError(f"--contestants names {unknown[0]!r}; there are {', '.join(CONTESTANTS)}.")
    return [c for c in CONTESTANTS.values() if c.name in wanted and shape.family in c.families]


def _tables(plan: Plan, data: Path | None, count: int) -> Workload:
    if SHAPES[plan.shape].family == "igt5":
        source, pairs = antibodies(data)
        return workload(source, pairs[: plan.of], count)
    source, sequences = antigens(data)
    return workload(source, sequences[: plan.of], count)


def _asked(plan: Plan, tables: Workload, checkpoints: Path) -> dict[str, Any]:
    shape = SHAPES[plan.shape]
    return {
        "checkpoint": str(checkpoint(plan.shape, checkpoints)),
        "other": str(checkpoint(OTHER[shape.family], checkpoints)),
        "family": shape.family,
        "device": "cpu",
        "edge": min(_LARGEST_EDGE, 8 * shape.width),
        "tables": {"large": tables.large, "small": tables.small},
    }


def checkpoint(name: str, root: Path) -> Path:
    """Find or write a checkpoint, in a process of its own: this one stays small beside the contestants."""
    folder = root.resolve() / name
    if not folder.is_dir():
        command = [sys.executable, "-m", "benchmarks.checkpoints", name, str(folder.parent)]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return folder


def progress() -> Callable[[str], None]:
    """Tell on standard error what goes on, with the seconds since now."""
    started = time.perf_counter()
    return lambda text: click.echo(f"{time.perf_counter() - started:6.0f} s  {text}", err=True)


def _rates(matmul: Measured) -> dict[str, float]:
    """Take the median of each rate over the rounds."""
    each = matmul.each
    return {name: statistics.median(rates[name] for rates in each) for name in (each[0] if each else ())}


def work_of(shape: Shape, tables: Workload) -> Work:
    """Count what a round's seconds buy: the large table less the small one."""
    large, small = tables.residues
    special = 2  # <cls> and <eos>, or one </s> after each chain
    tokens = large - small + special * (len(tables.large) - len(tables.small))
    return Work(shape=shape, residues=large - small, tokens=tokens)


def _command(work: str, names: str, rounds: int, sequences: int) -> str:
    chosen = f" --contestants {names}" if names else ""
    return f"python -m benchmarks.encoders --work {work} --rounds {rounds} --sequences {sequences}{chosen}"


if __name__ == "__main__":
    main()
