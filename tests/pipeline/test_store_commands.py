"""`bindcache store`: export, and looking after the store."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed.fingerprint import find_sources
from embed.sequences import antibody_keys, antigen_keys
from embed.store.reader import Vectors
from pipeline.config import load


def test_export_writes_the_store_s_vectors(bindcache, config, embedded, tmp_path):
    """One row per distinct encoder input, with the very vectors of the store."""
    out = tmp_path / "vectors.parquet"
    result = bindcache("store", "export", "--config", config, "--out", out, "--json")
    assert json.loads(result.stdout) == {"rows": embedded["embedded"], "out": str(out), "files": [str(out)]}
    table = pq.read_table(out)
    assert table.schema.names == ["role", "id", "heavy", "light", "antigen", "vector"]
    assert table.schema.field("vector").type == pa.list_(pa.float32())
    rows = table.to_pylist()
    sources = find_sources(load(config).embed)
    for row in (rows[0], rows[len(rows) // 2], rows[-1]):
        if row["role"] == "antibody":
            assert row["antigen"] is None
            folder, key = sources.paired.folder, antibody_keys([(row["heavy"], row["light"])])
        else:
            assert (row["heavy"], row["light"]) == (None, None)
            folder, key = sources.antigen.folder, antigen_keys([row["antigen"]])
        vectors = Vectors(folder)
        assert np.array_equal(np.float32(row["vector"]), vectors.read(vectors.find(key))[0])
    assert {row["role"] for row in rows} == {"antibody", "antigen"}
    assert any(row["role"] == "antibody" and row["light"] is None for row in rows)
    assert len({(row["heavy"], row["light"], row["antigen"]) for row in rows}) == len(rows)


def test_export_of_missing_vectors_is_refused(error, config, embedded, tmp_path):
    """An export is whole or is not."""
    empty, out = tmp_path / "empty", tmp_path / "out.parquet"
    said = error("store", "export", "--config", config, "--set", f"embed.store={empty}", "--out", out)
    count = embedded["embedded"]
    assert said == f"Error: {count} of {count} vectors are not in the store; run `bindcache embed` first.\n"
    assert not list(tmp_path.glob("*.parquet*"))


def test_store_commands_see_a_damaged_shard_and_mend_it_by_merging(bindcache, config, embedded, demo, tmp_path):
    """`info`, `verify`, `gc` and `merge` in the order in which a user needs them."""
    info = json.loads(bindcache("store", "info", "--config", config, "--json").stdout)
    assert sum(folder["keys"] for folder in info["folders"]) >= embedded["embedded"]
    assert "keys" in bindcache("store", "info", "--config", config).stdout
    copy = tmp_path / "copy"
    shutil.copytree(demo / "store", copy)
    here = ("--config", config, "--set", f"embed.store={copy}")
    whole = bindcache("store", "verify", *here)
    assert (whole.exit_code, whole.stdout) == (0, f"{copy}\nevery shard is whole\n")
    shard = max(copy.rglob("*.h5"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    damaged = bindcache("store", "verify", *here, "--json")
    assert damaged.exit_code == 2
    assert [problem["path"] for problem in json.loads(damaged.stdout)["problems"]] == [str(shard)]
    shard.unlink()
    merged = bindcache("store", "merge", demo / "store", *here, "--json")
    assert json.loads(merged.stdout) == {"store": str(copy), "added": [str(shard)]}
    assert bindcache("store", "verify", *here).exit_code == 0
    (shard.parent / ".tmp-host-1-a").write_bytes(b"half")
    os.utime(shard.parent / ".tmp-host-1-a", (0, 0))
    assert bindcache("store", "gc", *here, "--dry-run").stdout.endswith("would remove 1 files, 4 bytes\n")
    assert bindcache("store", "gc", *here).stdout.endswith("removed 1 files, 4 bytes\n")
    assert bindcache("store", "gc", *here).stdout == "removed 0 files, 0 bytes\n"


def test_verify_tells_how_far_it_is(demo, embedded):
    """One step for each shard, the last one says that all are done."""
    from embed.store.maintenance import verify

    told = []
    assert verify(Path(embedded["store"]), lambda *step: told.append(step)) == []
    shards = len(list(Path(embedded["store"]).glob("*/shards/*.h5")))
    assert told == [("verifying shards", done, shards) for done in range(1, shards + 1)]
