"""What a shared file system is asked for each shard: counted by strace, so that it cannot grow unseen."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

FEW, MANY = 5, 25
SCRIPT = """
import sys
from pathlib import Path

import numpy as np

from embed.store.reader import Vectors
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder

what, root, shards = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
facts = {"encoder": "none"}
digest = fingerprint_digest(facts)
folder = create_folder(root, f"none-{digest[:16]}", facts, {})
if what == "write":
    random = np.random.default_rng(shards)
    with ShardWriter(folder, fingerprint=digest, dim=4, shard_rows=10) as writer:
        for _ in range(shards):
            keys = random.integers(0, 256, (10, 16), np.uint8)
            writer.add(keys, np.zeros((10, 4), np.float32), np.ones(10, np.int32))
else:
    assert len(Vectors(folder)) == 10 * shards
"""
CALLS = "file,fsync,fdatasync,flock,fcntl,getdents64"


def calls(tmp_path: Path, what: str, shards: int) -> Counter[str]:
    """Count the calls of a process that name a path or lock or sync a file."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", f"trace={CALLS}", "-o", str(trace), sys.executable, "-c", SCRIPT]
    subprocess.run([*command, what, str(tmp_path / f"{shards}"), str(shards)], check=True, timeout=120)
    found: Counter[str] = Counter()
    for line in trace.read_text().splitlines():
        name = re.match(r"\d+ +(\w+)\(", line)
        elsewhere = '"' in line and str(tmp_path) not in line  # libraries, or a file that is open already
        if name and not elsewhere:
            locks = name[1] == "flock" or "_SETLK" in line
            found["lock" if locks else name[1]] += 1
    return found


def per_shard(tmp_path: Path, what: str) -> dict[str, float]:
    few, many = (calls(tmp_path, what, shards) for shards in (FEW, MANY))
    grown = {name: (many[name] - few[name]) / (MANY - FEW) for name in many}
    return {name: count for name, count in grown.items() if count > 0.2 and name != "fcntl"}


def test_publishing_and_opening_a_shard_ask_for_what_the_format_says(tmp_path) -> None:
    """As FORMAT.md has it, under "Shared file systems"; never a lock."""
    written = per_shard(tmp_path, "write")
    assert {name: round(count) for name, count in written.items() if name != "newfstatat"} == {
        "openat": 2,
        "link": 1,
        "unlink": 1,
        "fsync": 2,
    }
    opened = per_shard(tmp_path, "read")
    assert {name: round(count) for name, count in opened.items()} == {"openat": 3, "lstat": 1}
