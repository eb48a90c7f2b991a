"""Small files that would fill the memory: a sentence, and little memory, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed.errors import PairsError
from embed.pairs import PairsConfig, read_pairs

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import resource, sys
from pathlib import Path
from embed.errors import PairsError
from embed.pairs import PairsConfig, read_pairs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_pairs(PairsConfig(path=Path(sys.argv[1])))
except PairsError as error:
    print(str(error)[:300].replace(chr(10), " "))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def read(path):
    """Read a table in another process; returns what it said, and the MiB that it took."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *said, took = done.stdout.splitlines()
    return " ".join(said), int(took)


def rows_bomb(path):
    """Thirty million equal rows in a few kilobytes."""
    rows = 30_000_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["EVQLVES"]))
    table = pa.table({"heavy": column, "light": column, "antigen": column})
    pq.write_table(table, path, compression="zstd", write_statistics=False, row_group_size=rows, max_rows_per_page=rows)


def cell_bomb(path):
    """A cell of 270 MB of one letter, zipped."""
    table = pa.table({"heavy": ["A" * 270_000_000], "light": ["DIQ"], "antigen": ["MKT"]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)


@pytest.mark.parametrize("make", [rows_bomb, cell_bomb])
def test_a_parquet_bomb_is_refused_before_it_is_read(tmp_path, make):
    """Neither thirty million rows nor a cell of hundreds of megabytes is unpacked."""
    path = tmp_path / "pairs.parquet"
    make(path)
    assert path.stat().st_size < 300_000
    said, took = read(path)
    assert "made to fill the memory" in said
    assert took < 100


def test_a_table_that_repeats_itself_is_no_bomb(tmp_path):
    """Two million rows of a few sequences, in a file of kilobytes, are read."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000_000, np.int32)), pa.array(["EVQLVES"]))
    pq.write_table(pa.table({"heavy": column, "light": column, "antigen": column}), tmp_path / "pairs.parquet")
    assert len(read_pairs(PairsConfig(path=tmp_path / "pairs.parquet")).antibodies) == 1


def test_a_csv_line_without_end_is_refused(tmp_path):
    """One cell of 100 MB takes a few times its size, and is a sentence in the end."""
    path = tmp_path / "pairs.csv"
    with path.open("w") as file:
        file.write("heavy,light,antigen\n")
        for _ in range(100):
            file.write("A" * 1_000_000)
        file.write(",DIQ,MKT\n")
    said, took = read(path)
    assert said
    assert took < 600


def test_nested_columns_are_refused(tmp_path):
    """A column of lists of lists is no text."""
    nested = pa.array([[[["EVQ"]]]])
    pq.write_table(pa.table({"heavy": nested, "light": ["DIQ"], "antigen": ["MKT"]}), tmp_path / "pairs.parquet")
    with pytest.raises(PairsError, match="heavy"):
        read_pairs(PairsConfig(path=tmp_path / "pairs.parquet"))
