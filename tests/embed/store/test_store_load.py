"""Many readers while many writers publish: each sees whole shards and right vectors, and all of them in the end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

READER = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
from embed.store.reader import Vectors

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
keys = b"".join(hashlib.blake2b(b"%d" % number, digest_size=16).digest() for number in range(rows))
key_N16 = np.frombuffer(keys, np.uint8).reshape(-1, 16)
vectors, seen, looks, growing = Vectors(folder), 0, 0, 0
while seen < rows:
    vectors.refresh()
    location_N = vectors.find(key_N16)
    (found,) = np.nonzero(location_N >= 0)
    if not len(found):
        continue
    assert len(found) >= seen, "keys went away"
    shard_found = (location_N >= 0).reshape(-1, 8)
    assert (shard_found.all(axis=1) == shard_found.any(axis=1)).all(), "part of a shard"
    assert (vectors.read(location_N[found]) == key_N16[found]).all(), "a wrong vector"
    assert (vectors.lengths(location_N[found]) == found).all(), "a wrong length"
    looks, growing, seen = looks + 1, growing + (seen < len(found) < rows), len(found)
print(json.dumps({"looks": looks, "growing": growing, "keys": seen}))
"""


@pytest.mark.parametrize(
    ("readers", "writers", "rows"),
    [(4, 2, 1_200), pytest.param(16, 4, 8_000, marks=pytest.mark.torture)],
    ids=["fast", "long"],
)
def test_readers_see_whole_shards_while_writers_publish(folder, start_writer, figure, readers, writers, rows):
    """Real processes; the writers' shares overlap, so that many keys are published twice."""
    share = rows // writers
    reading = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(folder), str(rows)],
            cwd=Path(__file__).resolve().parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(readers)
    ]
    writing = [start_writer(number * share, min(2 * share, rows - number * share)) for number in range(writers)]
    try:
        assert [process.wait(300) for process in writing] == [0] * writers
        told = [process.communicate(timeout=300) for process in reading]
    finally:
        for process in reading:
            process.kill()
            process.communicate()
    assert [error for _, error in told] == [""] * readers
    found = [json.loads(output) for output, _ in told]
    assert {reader["keys"] for reader in found} == {rows}
    assert sum(reader["growing"] for reader in found) > 0, "no reader saw the store grow"
    figure("looks of readers into a store that others write", sum(reader["looks"] for reader in found))
