"""Reads and plans one table in a process of its own: `python -m benchmarks.planning_one PATH` prints JSON.

Shapes: N sequences, K bytes of a key.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embed.encoders.checkpoint import Checkpoint
from embed.fingerprint import Source, Sources
from embed.pairs import PairsConfig, read_pairs
from embed.result import peak_memory_bytes
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder
from embed.work import left_to_read


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
        "read_seconds": read - started,
        "plan_seconds": planned - read,
        "peak_memory_bytes": peak,
        "held": held,
        "plan_half_held_seconds": again - found,
        "peak_memory_bytes_half_held": peak_memory_bytes(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
