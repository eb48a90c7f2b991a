"""Everything that needs a GPU, in one script of under nine minutes: `python -m benchmarks.gpu`.

Encoders of the full shapes with random weights, made here; the contestants of `benchmarks.encoders` that make sense on
a GPU, alternating; whole stages; and checks of what only CUDA can show. What there is no time left for says so. The
tables come last.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch

from benchmarks import gpu_checks, gpu_embedding, gpu_training
from benchmarks.checkpoints import write
from benchmarks.encoders import OTHER, RESULTS, work_of
from benchmarks.gpu_race import Clock, race
from benchmarks.machine import Machine, describe
from benchmarks.matmul import Rates, rates
from benchmarks.report import Record, markdown, today
from benchmarks.report import write as write_record
from benchmarks.scoring import Row, score
from benchmarks.shapes import SHAPES
from benchmarks.workloads import Workload, made_antibodies, made_antigens, workload

_ROUNDS = 3
_LEFT = (0.65, 0.3)
"""Shares of all seconds that are kept for what comes after the antigens' and the antibodies' encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large everything is."""

    device: str
    antigen: str
    """Shape of the encoder."""
    antibody: str
    antigens: int
    antibodies: int
    edge: int
    """Of the matrices whose product's rate is measured."""
    stages: gpu_checks.Sizes


_REAL = Plan(
    device="cuda",
    antigen="esm2-650m",
    antibody="igt5",
    antigens=1500,
    antibodies=2048,
    edge=8192,
    stages=gpu_checks.Sizes(embedded=20_000, trained=140_000, antigens=5_000, checked=4_000),
)
_DRY = Plan(
    device="cpu",
    antigen="demo-esm2",
    antibody="demo-igt5",
    antigens=32,
    antibodies=64,
    edge=512,
    stages=gpu_checks.Sizes(embedded=40, trained=2_000, antigens=50, checked=400),
)


@click.command()
@click.option("--dry-run", is_flag=True, help="Tiny shapes on the CPU: every row that can run there; writes nothing.")
@click.option("--seconds", default=510, show_default=True, type=click.IntRange(1), help="Nothing new begins later.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the records.")
def main(dry_run: bool, seconds: int, results: Path) -> None:
    """Measure and check everything that needs a GPU."""
    if not dry_run and not torch.cuda.is_available():
        click.echo("There is no CUDA device here; --dry-run runs tiny shapes on the CPU.", err=True)
        sys.exit(2)
    clock, plan, machine = Clock(seconds), _DRY if dry_run else _REAL, describe()
    if not dry_run:
        machine = replace(machine, accelerator=torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory(prefix="bindcache-gpu-") as folder:
        records, failed = _encoders(plan, Path(folder), machine, clock)
        place = gpu_checks.Place(
            folder=Path(folder),
            device=plan.device,
            antibody=Path(folder) / plan.antibody,
            antigen=Path(folder) / plan.antigen,
            sizes=plan.stages,
        )
        checks = gpu_checks.run({**gpu_embedding.CHECKS, **gpu_training.CHECKS}, place, clock)
    if not dry_run:
        for record in records:
            write_record(record, results)
        stem = f"gpu-checks-{today()}.md"
        (results / stem).write_text(gpu_checks.markdown(checks, machine.accelerator, machine.commit), "utf-8")
    for record in records:
        click.echo(markdown(record))
    click.echo(gpu_checks.markdown(checks, machine.accelerator or "CPU, dry run", machine.commit))
    if failed or any(check.failed for check in checks):
        sys.exit(1)


def _encoders(plan: Plan, folder: Path, machine: Machine, clock: Clock) -> tuple[list[Record], bool]:
    clock.tell("matmul")
    device = torch.device(plan.device)
    rates(256, device)  # loads the libraries
    measured = dict(rates(plan.edge, device))
    for name in sorted({plan.antigen, plan.antibody, *OTHER.values()}):
        clock.tell(f"writing {name}")
        (folder / name).mkdir()
        write(SHAPES[name], folder / name, plan.device)
    tables = (
        (plan.antigen, workload("made here", made_antigens(plan.antigens // 10), plan.antigens)),
        (plan.antibody, workload("made here", made_antibodies(plan.antibodies), plan.antibodies)),
    )
    records, failed = [], False
    for (name, table), share in zip(tables, _LEFT, strict=True):
        shape = SHAPES[name]
        asked = {
            "checkpoint": str(folder / name),
            "other": str(folder / OTHER[shape.family]),
            "family": shape.family,
            "device": plan.device,
            "store": str(folder / "weights"),
        }
        clock.tell(name)
        results = race(table, asked, _ROUNDS, clock, share * clock.seconds)
        rows, baseline = score(results, work_of(shape, table), measured)
        failed |= any(result.failed for result in results)
        records.append(_record(name, table, machine, plan, measured, rows, baseline))
    return records, failed


def _record(
    name: str, table: Workload, machine: Machine, plan: Plan, measured: Rates, rows: Sequence[Row], baseline: str
) -> Record:
    return Record(
        work=f"gpu-{name}",
        says=f"{name}, random weights, every contestant in one process. Peak GB is the GPU's memory, weights included; "
        "first run is loading and the first pass over the large table; one sequence at a time is measured on every "
        "sixteenth sequence.",
        command="python -m benchmarks.gpu",
        date=today(),
        machine=machine,
        rounds=_ROUNDS,
        table=table.source,
        sequences={"whole": table.whole, "large": len(table.large), "small": len(table.small)},
        residues=dict(zip(("large", "small"), table.residues, strict=True)),
        weights=SHAPES[name].weights,
        matmul=measured,
        matmul_edge=plan.edge,
        baseline=baseline,
        rows=rows,
    )


if __name__ == "__main__":
    main()
