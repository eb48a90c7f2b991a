"""Memory stays bounded: tables of a million pairs, and stores larger than the memory allowed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

REPOSITORY = Path(__file__).parents[2]
RESIDUES = np.array(list("ACDEFGHIKLMNPQRSTVWY"))

STREAM = """
import json, resource, sys
from pathlib import Path
from embed.pairs import PairsConfig, read_pairs
from train.config import TrainConfig
from train.dataset import VectorFolders
from train.stage import run_train
import torch

torch.set_num_threads(1)
folder, allowed, placement, batch_size = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
table = read_pairs(PairsConfig(path=folder / "pairs.parquet", light="", affinity="pkd", split="split"))
antibodies, antigens = sorted((folder / "store").iterdir())
fields = dict(split="column", widths=(8,), epochs=1, compile="off", precision="fp32", device="cpu")
config = TrainConfig(run=folder / f"run-{placement}", placement=placement, batch_size=batch_size, **fields)
used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + allowed, used + allowed))
result = run_train(config, table, VectorFolders(paired=antibodies, single=antibodies, antigen=antigens), resolved={})
print(json.dumps({"pairs": result.pairs, "epochs": result.epochs, "predicted": result.test["n"]}))
"""


def sequences(random, count, length):
    return ["".join(row) for row in RESIDUES[random.integers(0, 20, (count, length))]]


@pytest.mark.parametrize(
    ("pairs", "most_bytes"),
    [(20_000, 1 << 30), pytest.param(1_000_000, 3 << 29, marks=pytest.mark.torture)],
    ids=["fast", "long"],
)
def test_a_large_table_is_embedded_in_bounded_memory(demo, tmp_path, start, figure, pairs, most_bytes):
    """Pairs of few sequences cost a few numbers each, whatever the sequences are long."""
    random, side = np.random.default_rng(0), int(pairs**0.5)
    antibodies, antigens = sequences(random, side, 120), sequences(random, -(-pairs // side), 80)
    number = np.arange(pairs)
    columns = {
        "heavy": pa.array(antibodies).take(pa.array(number % side)),
        "antigen": pa.array(antigens).take(pa.array(number // side)),
        "pkd": random.normal(8, 1, pairs),
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    given = {
        "pairs.path": tmp_path / "pairs.parquet",
        "pairs.id": '""',
        "pairs.light": '""',
        "embed.store": tmp_path / "s",
    }
    overrides = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    process = start("embed", "--config", demo / "demo.toml", *overrides, "--json")
    output, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    result = json.loads(output)
    assert (result["pairs"], result["embedded"]) == (pairs, len(antibodies) + len(antigens))
    assert result["peak_memory_bytes"] < most_bytes
    figure(f"peak memory of embedding {pairs:,} pairs, MB", result["peak_memory_bytes"] >> 20)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux alone")
@pytest.mark.torture
@pytest.mark.parametrize(("rows", "width", "allowed"), [(300_000, 1_024, 400 << 20)])
def test_a_store_larger_than_the_memory_allowed_is_streamed(tmp_path, figure, rows, width, allowed):
    """A process that may take so much memory trains on a store three times as large, which it could not hold.

    What counts is memory of its own: pages of the shards are the system's, which drops them as it likes.
    """
    stored = plant(tmp_path, rows, width)
    assert stored > 2 * allowed

    def train(placement):
        command = [sys.executable, "-c", STREAM, str(tmp_path), str(allowed), placement, "256"]
        alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads take memory of their own
        return subprocess.run(
            command, cwd=REPOSITORY, env=alone, capture_output=True, text=True, timeout=600, check=False
        )

    streamed = train("mapped")
    assert streamed.returncode == 0, streamed.stderr
    assert json.loads(streamed.stdout) == {"pairs": rows, "epochs": 1, "predicted": rows // 100}
    held = train("device")
    assert held.returncode != 0
    assert "memory" in held.stderr
    figure(f"MB of a store that was streamed within {allowed >> 20} MB of memory", stored >> 20)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux alone")
@pytest.mark.torture
def test_residues_larger_than_the_memory_allowed_are_streamed(tmp_path, figure):
    """Vectors of residues, three times what the process may take, are trained on, scored and predicted."""
    rows, allowed = 2_700, 400 << 20
    stored = plant_residues(tmp_path, rows, residues=230, width=1_024)
    assert stored > 3 * allowed
    command = [sys.executable, "-c", STREAM, str(tmp_path), str(allowed), "mapped", "32"]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    streamed = subprocess.run(
        command, cwd=REPOSITORY, env=alone, capture_output=True, text=True, timeout=600, check=False
    )
    assert streamed.returncode == 0, streamed.stderr
    told = json.loads(streamed.stdout)
    assert (told["pairs"], told["epochs"], told["predicted"]) == (rows, 1, rows // 100)
    figure(f"MB of residues that were streamed within {allowed >> 20} MB of memory", stored >> 20)


def plant_residues(folder: Path, rows: int, residues: int, width: int) -> int:
    """Make a table of so many antibodies and 7 antigens, and a store of random vectors of residues; tell its bytes."""
    from embed.sequences import antibody_keys, antigen_keys
    from embed.store.residue_writer import ResidueWriter

    random = np.random.default_rng(0)
    heavies, targets = sequences(random, rows, residues), sequences(random, 7, 60)
    write_pairs(folder, heavies, targets, random)
    state_LD = random.standard_normal((2 * residues, width)).astype(np.float16)
    for name, key_N16, length, dim in (
        ("antibody", antibody_keys([(heavy, None) for heavy in heavies]), residues, width),
        ("antigen", antigen_keys(targets), 60, 4),
    ):
        store, digest = new_folder(folder, name)
        with ResidueWriter(store, fingerprint=digest, dim=dim) as writer:
            for number, key_16 in enumerate(key_N16):
                first = number % residues
                writer.add(key_16[None], [state_LD[first : first + length, :dim]], np.array([length], np.int32))
    return stored_bytes(folder)


def plant(folder: Path, rows: int, width: int) -> int:
    """Make a table of so many antibodies and 7 antigens, and a store of random vectors; tell its bytes."""
    from embed.sequences import antibody_keys, antigen_keys
    from embed.store.writer import ShardWriter

    random = np.random.default_rng(0)
    heavies, targets = sequences(random, rows, 24), sequences(random, 7, 60)
    write_pairs(folder, heavies, targets, random)
    for name, key_N16, dim in (
        ("antibody", antibody_keys([(heavy, None) for heavy in heavies]), width),
        ("antigen", antigen_keys(targets), 4),
    ):
        store, digest = new_folder(folder, name)
        with ShardWriter(store, fingerprint=digest, dim=dim) as writer:
            for start in range(0, len(key_N16), 4_096):
                block_B16 = key_N16[start : start + 4_096]
                vector_BD = random.standard_normal((len(block_B16), dim), np.float32)
                writer.add(block_B16, vector_BD, np.full(len(block_B16), 24, np.int32))
    return stored_bytes(folder)


def write_pairs(folder, heavies, targets, random):
    """Write a table of antibodies, each with one of a few antigens."""
    columns = {
        "heavy": heavies,
        "antigen": [targets[number % 7] for number in range(len(heavies))],
        "pkd": random.normal(8, 1, len(heavies)),
        "split": [{0: "valid", 1: "test"}.get(number % 100, "train") for number in range(len(heavies))],
    }
    pyarrow.parquet.write_table(pa.table(columns), folder / "pairs.parquet")


def new_folder(folder, name):
    """Make a folder of a store, and tell its fingerprint."""
    from embed.store.schema import fingerprint_digest
    from embed.store.writer import create_folder

    digest = fingerprint_digest({"of": name})
    return create_folder(folder / "store", f"{name}-{digest[:16]}", {"of": name}, {}), digest


def stored_bytes(folder):
    return sum(path.stat().st_size for path in (folder / "store").rglob("*.h5"))
