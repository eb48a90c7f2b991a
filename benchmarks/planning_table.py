"""A synthetic pairs table of any size: `python -m benchmarks.planning_table PATH ROWS`.

Shapes: R rows, S scaffolds, T residues of sequences end to end.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

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


if __name__ == "__main__":
    make_table(Path(sys.argv[1]), int(sys.argv[2]))
