"""Training speed against the usual ways: `python -m benchmarks.train`.

The same pairs, split, batches, steps, learning rates and widths for all; each contestant trains in a process of its
own, in alternating order, once a round, with another seed each round. Pairs/s count the optimizer steps alone.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import click

from benchmarks.machine import Machine, describe

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).parent / "results"

CONTESTANTS = {
    "rows": "(a) Dataset that reads HDF5 row by row, DataLoader, eager fp32",
    "copied": "(b) vectors copied per pair in memory, DataLoader, eager fp32",
    "copied-bf16": "(b) in bf16 autocast",
    "ours": "bindcache",
}
_HEAD = ("", "pairs/s", "ours is faster", "epoch s", "setup s", "Spearman", "R2", "peak GB", "workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is trained on."""

    pairs: int
    antigens: int
    antibodies: int
    rounds: int
    epochs: int
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contestant over all rounds; triples are median, least and most."""

    name: str
    says: str
    pairs_per_second: tuple[float, float, float]
    faster: tuple[float, float, float]
    """Our pairs/s over its pairs/s, round by round."""
    epoch_seconds: float
    """One epoch with its validation, median."""
    setup_seconds: float
    spearman: tuple[float, float | None]
    """Of the validation pairs after the last epoch: mean over the rounds and its standard error, if there are two."""
    r2: tuple[float, float | None]
    peak_memory_bytes: int
    notes: dict[str, Any]


@click.command()
@click.option("--pairs", type=click.IntRange(100), default=140_000, show_default=True)
@click.option("--antigens", type=click.IntRange(1), default=5_000, show_default=True)
@click.option("--antibodies", type=click.IntRange(1), default=140_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Of each training.")
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True)
@click.option("--small", is_flag=True, help="10,000 pairs and antibodies, 500 antigens, 3 rounds of 2 epochs.")
@click.option("--out", type=click.Path(path_type=Path), default=_RESULTS, help="Folder of the record.")
def main(*, small: bool, out: Path, **sizes: int) -> None:
    """Measure training against the usual ways, and write a record."""
    little = {"pairs": 10_000, "antigens": 500, "antibodies": 10_000, "rounds": 3, "epochs": 2}
    size = Size(**{**sizes, **(little if small else {})})
    if size.antibodies * size.antigens < size.pairs or size.antibodies > size.pairs:
        raise click.UsageError(
            f"--pairs {size.pairs} needs at most that many --antibodies, and that many distinct pairs of them with "
            "--antigens."
        )
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        answers = run_rounds(size, Path(folder))
    rows = summarise(answers, size.epochs)
    record = _record(size, machine, rows)
    click.echo(_write(record, machine, rows, out))


def run_rounds(size: Size, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write the data and let every contestant train in every round; the list of each has one answer a round."""
    started = time.perf_counter()
    drawn = {"pairs": size.pairs, "antigens": size.antigens, "antibodies": size.antibodies}
    _child("benchmarks.training_data", {"folder": str(folder), **drawn})
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for seed in range(size.rounds):
        for name in list(CONTESTANTS)[:: 1 if seed % 2 == 0 else -1]:
            request = {"folder": str(folder), "contestant": name, "seed": seed, "epochs": size.epochs}
            request["batch_size"] = size.batch_size
            answer = json.loads(_child("benchmarks.training_one", request))
            answers[name].append(answer)
            pace = answer["pairs"] / answer["steps_seconds"]
            click.echo(
                f"{time.perf_counter() - started:6.0f} s  round {seed + 1} of {size.rounds}: {name}, "
                f"{pace:,.0f} pairs/s, Spearman {answer['spearman']:.3f}",
                err=True,
            )
    return answers


def _child(module: str, request: dict[str, Any]) -> str:
    environment = {"GOMP_SPINCOUNT": "10000", **os.environ}  # as bindcache's command line sets it
    command = [sys.executable, "-m", module, json.dumps(request)]
    done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def summarise(answers: dict[str, list[dict[str, Any]]], epochs: int) -> list[Row]:
    """Make a row of each contestant's answers."""
    paces = {name: [each["pairs"] / each["steps_seconds"] for each in of] for name, of in answers.items()}
    return [
        Row(
            name=name,
            says=CONTESTANTS[name],
            pairs_per_second=_spread(paces[name]),
            faster=_spread([ours / pace for ours, pace in zip(paces["ours"], paces[name], strict=True)]),
            epoch_seconds=median(each["seconds"] for each in of) / epochs,
            setup_seconds=median(each["setup_seconds"] for each in of),
            spearman=_mean([each["spearman"] for each in of]),
            r2=_mean([each["r2"] for each in of]),
            peak_memory_bytes=max(each["peak_memory_bytes"] for each in of),
            notes=_widest([each["notes"] for each in of]),
        )
        for name, of in answers.items()
    ]


def _spread(values: list[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


def _mean(values: list[float]) -> tuple[float, float | None]:
    return mean(values), stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def _widest(notes: list[dict[str, Any]]) -> dict[str, Any]:
    """Take the largest of each number over the rounds, and all texts."""
    return {
        key: max(values) if isinstance(values[0], int | float) else "; ".join(sorted(set(values)))
        for key in notes[0]
        if (values := [each[key] for each in notes])
    }


def _record(size: Size, machine: Machine, rows: list[Row]) -> dict[str, Any]:
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in asdict(size).items())
    return {
        "date": date.today().isoformat(),
        "machine": asdict(machine),
        "versions": {**machine.versions, "h5py": version("h5py")},
        "commit": machine.commit,
        "command": f"python -m benchmarks.train {options}",
        "size": asdict(size),
        "rows": [asdict(row) for row in rows],
    }


def _write(record: dict[str, Any], machine: Machine, rows: list[Row], folder: Path) -> str:
    """Write `train-batch-<size>-<date>-<machine>.json` and `.md`; give the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine.cpu} {machine.cores} cores".lower()).strip("-")
    stem = folder / f"train-batch-{record['size']['batch_size']}-{record['date']}-{slug}"
    text = markdown(record, machine, rows)
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    stem.with_name(f"{stem.name}.md").write_text(text, "utf-8")
    return text


def markdown(record: dict[str, Any], machine: Machine, rows: list[Row]) -> str:
    """Lay a record out for people."""
    size, versions = record["size"], record["versions"]
    ours = next(row.notes for row in rows if row.name == "ours")
    lines = [
        f"# Training, {record['date']}",
        "",
        f"* `{record['command']}`, commit {record['commit']}",
        f"* {machine.cpu}, {machine.cores} cores, load {machine.load} at the start; Python {machine.python}, "
        f"torch {versions['torch']}, h5py {versions['h5py']}",
        f"* {size['pairs']:,} pairs of {size['antibodies']:,} antibodies (1024 wide) and {size['antigens']:,} antigens "
        f"(1280), eight tenths of them trained on for {size['epochs']} epochs in batches of {size['batch_size']}, "
        "widths 1024-512-256-128, features standardised, AdamW fused, gradients clipped; synthetic vectors, planted "
        "rule",
        "",
        f"| {' | '.join(_HEAD)} |",
        "|---" * len(_HEAD) + "|",
        *(_line(row) for row in rows),
        "",
        f"Medians of {size['rounds']} alternating rounds (least to most in brackets), each contestant in a process of "
        "its own, seed and order new each round. Pairs/s: optimizer steps with their loading; an epoch has its "
        "validation too, ours also its checkpoint. Scores: validation pairs, mean and standard error over the rounds.",
        "",
        f"Ours: {ours['precision']}, vectors on {ours['placement']}, compile {ours['compile']}, antigen half "
        f"{ours['antigen_half']}; waiting for batches at most {ours['waited_fraction']:.1%} of the time; longest stall "
        f"of a checkpoint {ours['checkpoint_longest_stall_seconds'] * 1e3:.1f} ms.",
        "",
    ]
    return "\n".join(lines)


def _line(row: Row) -> str:
    cells = [
        f"**{row.says}**" if row.name == "ours" else row.says,
        f"{row.pairs_per_second[0]:,.0f} ({row.pairs_per_second[1]:,.0f}-{row.pairs_per_second[2]:,.0f})",
        "" if row.name == "ours" else f"{row.faster[0]:.2f} ({row.faster[1]:.2f}-{row.faster[2]:.2f})",
        f"{row.epoch_seconds:.1f}",
        f"{row.setup_seconds:.1f}",
        *(f"{value:.3f}" + (f" ± {error:.3f}" if error else "") for value, error in (row.spearman, row.r2)),
        f"{row.peak_memory_bytes / 1e9:.2f}",
        str(row.notes.get("workers", "")),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
