"""How planning scales with the table: `python -m benchmarks.planning`.

Planning is everything before an encoder is loaded: the table is read, checked and deduplicated, its distinct sequences
are hashed, looked up in the store and shared out. Each size is planned in a process of its own; 10^7 rows take 2.5 GB
of the temporary folder (TMPDIR) while they are read.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import Machine, describe

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).parent / "results"
_HEAD = ("rows", "antibodies", "read s", "plan s", "us/row", "peak GB", "plan 1/8, half held, s", "peak GB")


@click.command()
@click.argument("rows", type=click.IntRange(1), nargs=-1)
@click.option("--format", "suffix", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=_RESULTS, help="Folder of the record.")
def main(rows: tuple[int, ...], suffix: str, out: Path) -> None:
    """Plan tables of 10^5, 10^6 and 10^7 ROWS, or of others, and write a record."""
    sizes = rows or (10**5, 10**6, 10**7)
    machine = describe()
    measured = [_measure(size, suffix) for size in sizes]
    record = {
        "date": date.today().isoformat(),
        "machine": asdict(machine),
        "versions": {**machine.versions, "pyarrow": version("pyarrow")},
        "commit": machine.commit,
        "command": f"python -m benchmarks.planning --format {suffix} {' '.join(map(str, sizes))}",
        "rows": measured,
    }
    click.echo(_write(record, machine, suffix, out))


def _measure(rows: int, suffix: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bindcache-planning-") as folder:
        path = Path(folder) / f"pairs.{suffix}"
        _child("benchmarks.planning_table", str(path), str(rows))
        measured: dict[str, Any] = json.loads(_child("benchmarks.planning_one", str(path)))
    click.echo(_line(measured), err=True)
    return measured


def _child(module: str, *words: str) -> str:
    command = [sys.executable, "-m", module, *words]
    huge_pages = {"MIMALLOC_ALLOW_LARGE_OS_PAGES": "1", "MIMALLOC_ALLOW_THP": "2"}  # as bindcache's command line sets
    environment = huge_pages | os.environ
    return subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def _write(record: dict[str, Any], machine: Machine, suffix: str, folder: Path) -> str:
    """Write `planning-<format>-<date>-<machine>.json` and `.md`; give the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine.cpu} {machine.cores} cores".lower()).strip("-")
    name = f"planning-{suffix}-{record['date']}-{slug}"
    text = markdown(record, machine, suffix)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (folder / f"{name}.md").write_text(text, "utf-8")
    return text


def markdown(record: dict[str, Any], machine: Machine, suffix: str) -> str:
    """Lay a record out for people."""
    lines = [
        f"# Planning, {record['date']}",
        "",
        f"* `{record['command']}`, commit {record['commit']}",
        f"* {machine.cpu}, {machine.cores} cores, load {machine.load} at the start; Python {machine.python}, "
        f"pyarrow {record['versions']['pyarrow']}, numpy {record['versions']['numpy']}",
        f"* {'Parquet (zstd)' if suffix == 'parquet' else 'CSV'} with an id, distinct antibodies of 215 to 245 "
        "residues mutated from 300 + 300 scaffolds, one of 5,000 antigens of 60 to 599, and a pKd in every row",
        "",
        f"| {' | '.join(_HEAD)} |",
        "|---" * len(_HEAD) + "|",
        *map(_line, record["rows"]),
        "",
        "Read: the table, checked and deduplicated. Plan: keys, look-up and lengths, with an empty store; us/row: "
        "both. Half held: part 1/8 of the same with every other antibody in the store.",
        "",
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    cells = (
        f"{row['rows']:,}",
        f"{row['antibodies']:,}",
        f"{row['read_seconds']:.1f}",
        f"{row['plan_seconds']:.1f}",
        f"{1e6 * (row['read_seconds'] + row['plan_seconds']) / row['rows']:.2f}",
        f"{row['peak_memory_bytes'] / 1e9:.2f}",
        f"{row['plan_half_held_seconds']:.1f}",
        f"{row['peak_memory_bytes_half_held'] / 1e9:.2f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
