"""The benchmark of planning: a real run on a tiny table, and what its table holds."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

from benchmarks.planning_table import make_table

ROOT = Path(__file__).resolve().parents[2]


def test_the_record_says_what_the_table_says(tmp_path):
    """Sizes, seconds and memory stand in both, and half of the antibodies were found in the store."""
    command = [sys.executable, "-m", "benchmarks.planning", "200", "1000", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    record, text = (next(tmp_path.glob(f"planning-parquet-*.{suffix}")).read_text() for suffix in ("json", "md"))
    assert done.stdout == text + "\n"
    small, large = json.loads(record)["rows"]
    assert (small["rows"], large["rows"], large["antibodies"]) == (200, 1000, 1000)
    assert 30 <= large["held"] <= 95  # half of an eighth
    for row in (small, large):
        each = 1e6 * (row["read_seconds"] + row["plan_seconds"]) / row["rows"]
        assert f"| {row['rows']:,} | {row['antibodies']:,} | " in text
        assert f" | {each:.2f} | {row['peak_memory_bytes'] / 1e9:.2f} | " in text


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_its_table_is_like_a_real_one(tmp_path, suffix):
    """Realistic lengths, all antibodies distinct, few antigens."""
    path = tmp_path / f"t.{suffix}"
    make_table(path, 3000)
    read = pyarrow.parquet.read_table if suffix == "parquet" else pyarrow.csv.read_csv
    rows = read(path).to_pylist()
    assert len({(row["heavy"], row["light"]) for row in rows}) == len({row["id"] for row in rows}) == 3000
    assert len({row["antigen"] for row in rows}) < 3000
    assert {len(row["heavy"]) for row in rows} <= set(range(110, 131))
    assert {len(row["light"]) for row in rows} <= set(range(105, 116))
    assert {len(row["antigen"]) for row in rows} <= set(range(60, 600))
