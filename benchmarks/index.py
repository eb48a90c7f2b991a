"""Opening a large store: seconds and memory until all its keys can be looked up.

`python -m benchmarks.index --shards 1000 --keys 10000000`

The vectors are narrow, since opening reads none. Each opening is a process of its own: the first one after the store
was written checks every shard's digest, the later ones find that recorded.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.machine import describe
from embed.store.reader import Vectors
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder

_RESULTS = Path(__file__).parent / "results"
_ROOT = Path(__file__).parents[1]
_WIDTH = 8
_ASKED = 1_000_000


@click.command()
@click.option("--shards", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--keys", type=click.IntRange(1), default=10_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=_RESULTS, help="Folder of the record.")
def main(*, shards: int, keys: int, rounds: int, out: Path) -> None:
    """Measure how long a store of many shards takes to open, and write a record."""
    machine = describe()
    with tempfile.TemporaryDirectory() as name:
        folder = write_store(Path(name), shards=shards, keys=keys)
        opened = [_open_in_a_process(folder) for _ in range(1 + rounds)]
    record = {
        "date": date.today().isoformat(),
        "machine": asdict(machine),
        "command": f"python -m benchmarks.index --shards {shards} --keys {keys} --rounds {rounds}",
        "first": opened[0],
        "later": opened[1:],
    }
    text = _markdown(record, f"{machine.cpu}, {machine.cores} cores, load {machine.load} at the start", shards, keys)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"index-{record['date']}.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (out / f"index-{record['date']}.md").write_text(text, "utf-8")
    click.echo(text)


def write_store(root: Path, *, shards: int, keys: int) -> Path:
    """Publish random keys with narrow vectors; gives the fingerprint's folder."""
    facts = {"encoder": "none"}
    digest = fingerprint_digest(facts)
    folder = create_folder(root, f"none-fp32-{digest[:16]}", facts, {})
    random = np.random.default_rng(0)
    rows = -(-keys // shards)
    with ShardWriter(folder, fingerprint=digest, dim=_WIDTH, shard_rows=rows) as writer:
        for start in range(0, keys, rows):
            count = min(rows, keys - start)
            key_N16 = random.integers(0, 256, (count, 16), np.uint8)
            writer.add(key_N16, np.zeros((count, _WIDTH), np.float32), np.full(count, 100, np.int32))
    return folder


def measure(folder: Path) -> dict[str, Any]:
    """Open a store and look a million keys up."""
    started = time.perf_counter()
    vectors = Vectors(folder)
    opened = time.perf_counter()
    asked_N16 = np.random.default_rng(1).integers(0, 256, (_ASKED, 16), np.uint8)
    asking = time.perf_counter()
    found = int((vectors.find(asked_N16) >= 0).sum())
    return {
        "seconds": opened - started,
        "keys": len(vectors),
        "find_seconds": time.perf_counter() - asking,
        "found": found,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _open_in_a_process(folder: Path) -> dict[str, Any]:
    code = "import json, sys, benchmarks.index as b; print(json.dumps(b.measure(b.Path(sys.argv[1]))))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _markdown(record: dict[str, Any], machine: str, shards: int, keys: int) -> str:
    first, later = record["first"], record["later"]
    seconds, peaks = [each["seconds"] for each in later], [each["peak_bytes"] for each in later]
    return "\n".join(
        [
            f"# Opening a store, {record['date']}",
            "",
            f"* `{record['command']}`, commit {record['machine']['commit']}",
            f"* {machine}; {keys:,} keys in {shards:,} shards",
            "",
            "| | seconds | peak GB |",
            "|---|---|---|",
            f"| first opening, which checks every shard's digest | {first['seconds']:.2f} | "
            f"{first['peak_bytes'] / 1e9:.2f} |",
            f"| later openings, median of {len(later)} | {median(seconds):.2f} ({min(seconds):.2f} to "
            f"{max(seconds):.2f}) | {max(peaks) / 1e9:.2f} |",
            "",
            f"Looking up a million keys, none of them there: {median(each['find_seconds'] for each in later):.2f} s.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
