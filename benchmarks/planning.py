"""How planning scales: a synthetic table of N distinct pairs is read, deduplicated, hashed, looked up and shared out.

    python benchmarks/planning.py [--rows 100000 1000000 10000000] [--suffix .parquet]

Each size runs in a process of its own; 10^7 rows take about 2 GB of disk in the temporary folder (TMPDIR) for as long
as they are read. `plan` is everything between the table and the encoders with an empty store; `half held` is the same
for part 1/8 with every other antibody in the store.

Shapes: R rows, S scaffolds, T residues of R sequences end to end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from embed.encoders.checkpoint import Checkpoint
from embed.fingerprint import Source, Sources
from embed.pairs import PairsConfig, read_pairs
from embed.result import peak_memory_bytes
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder
from embed.work import left_to_read

STANDARD = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
SCAFFOLDS, ANTIGENS, MUTATIONS = 300, 5_000, 8
HEAVY, LIGHT, ANTIGEN = (110, 131), (105, 116), (60, 600)
BLOCK = 100_000
SCHEMA = pa.schema(
    [("id", pa.string()), ("heavy", pa.string()), ("light", pa.string()), ("antigen", pa.string()), ("pkd", "f8")]
)


class Scaffolds:
    """Random sequences of random lengths, end to end in one array."""

    def __init__(self, random: np.random.Generator, count: int, lengths: tuple[int, int]) -> None:
        self.length_S = random.integers(*lengths, count)
        self.start_S = np.cumsum(self.length_S) - self.length_S
        self.residue_T = STANDARD[random.integers(0, 20, self.length_S.sum())]

    def mutate(self, random: np.random.Generator, rows: int, mutations: int) -> pa.StringArray:
        """Draw scaffolds and put random residues at random places of each."""
        scaffold_R = random.integers(0, len(self.length_S), rows)
        length_R = self.length_S[scaffold_R]
        end_R = np.cumsum(length_R)
        from_R = self.start_S[scaffold_R] - (end_R - length_R)
        residue_T = self.residue_T[np.repeat(from_R, length_R) + np.arange(end_R[-1])]
        for _ in range(mutations):
            place_R = (random.random(rows) * length_R).astype(np.int64)
            residue_T[end_R - length_R + place_R] = STANDARD[random.integers(0, 20, rows)]
        offsets = np.concatenate([[0], end_R]).astype(np.int32)
        return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(residue_T))


def make_table(path: Path, rows: int) -> None:
    """Write a table of antibodies that are (practically) all distinct."""
    random = np.random.default_rng(0)
    heavy, light, antigen = (
        Scaffolds(random, count, lengths)
        for count, lengths in ((SCAFFOLDS, HEAVY), (SCAFFOLDS, LIGHT), (ANTIGENS, ANTIGEN))
    )
    with _writer(path) as writer:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            columns = [
                pa.array([f"pair-{number}" for number in range(start, start + count)]),
                heavy.mutate(random, count, MUTATIONS),
                light.mutate(random, count, MUTATIONS),
                antigen.mutate(random, count, 0),
                pa.array(random.normal(8, 1, count)),
            ]
            writer.write(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))


def _writer(path: Path) -> pa.csv.CSVWriter | pa.parquet.ParquetWriter:
    if path.suffix == ".csv":
        return pa.csv.CSVWriter(path, SCHEMA)
    return pa.parquet.ParquetWriter(path, SCHEMA, compression="zstd")


def source_of(role: str, store: Path) -> Source:
    """Name an encoder that is never opened."""
    facts: dict[str, object] = {"benchmark": "planning", "role": role}
    return Source(
        role="antibody" if role == "antibody" else "antigen",
        family=role,
        checkpoint=Checkpoint(model=role, revision="", folder=store, config={}, weights=()),
        precision="int8",
        facts=facts,
        fingerprint=fingerprint_digest(facts),
        store=store,
    )


def publish_half(source: Source, key_NK: npt.NDArray[np.uint8], length_N: npt.NDArray[np.int32]) -> None:
    """Put every other key into the store, with vectors of width 1."""
    folder = create_folder(source.store, source.name, source.facts, {})
    with ShardWriter(folder, fingerprint=source.fingerprint, dim=1, shard_rows=65_536) as writer:
        writer.add(key_NK[::2], np.ones((len(key_NK[::2]), 1), np.float32), length_N[::2])


def measure(path: Path) -> dict[str, float]:
    """Read and plan one table in this process."""
    store = path.parent / "store"
    antibody = source_of("antibody", store)
    sources = Sources(paired=antibody, single=antibody, antigen=source_of("antigen", store))
    started = time.perf_counter()
    table = read_pairs(PairsConfig(path=path, id="id", affinity="pkd"))
    read = time.perf_counter()
    (antibodies, held), _ = left_to_read(table, sources, (1, 1))
    planned = time.perf_counter()
    peak = peak_memory_bytes()
    assert (len(antibodies), held) == (len(table.antibodies), 0)
    publish_half(antibody, antibodies.key_NK, antibodies.length_N)
    found = time.perf_counter()
    (_, held), _ = left_to_read(table, sources, (1, 8))
    again = time.perf_counter()
    return {
        "rows": len(table.row_ids),
        "antibodies": len(table.antibodies),
        "read": read - started,
        "plan": planned - read,
        "peak": peak,
        "held": held,
        "half held": again - found,
        "peak held": peak_memory_bytes(),
    }


def run(*arguments: str) -> str:
    """Run this script in a process of its own."""
    return subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--suffix", choices=[".parquet", ".csv"], default=".parquet")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        return make_table(asked.make, asked.rows[0])
    if asked.measure:
        return print(json.dumps(measure(asked.measure)))
    print("| rows | antibodies | read s | plan s | us/row | peak GB | half held s | peak GB |")
    print("|---|---|---|---|---|---|---|---|")
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"pairs{asked.suffix}"
            run("--make", str(path), "--rows", str(rows))
            told = json.loads(run("--measure", str(path)))
        each = 1e6 * (told["read"] + told["plan"]) / told["rows"]
        print(
            f"| {told['rows']:,} | {told['antibodies']:,} | {told['read']:.1f} | {told['plan']:.1f} | {each:.2f} | "
            f"{told['peak'] / 1e9:.2f} | {told['half held']:.1f} | {told['peak held'] / 1e9:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
