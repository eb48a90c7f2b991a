"""Small stores, rows whose right value is known from their key, and a writer in a process of its own."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embed.store.schema import fingerprint_digest
from embed.store.writer import create_folder

FACTS = {"encoder": "test", "precision": "fp32", "width": 16}

WRITER = """
import hashlib, sys
from pathlib import Path
import numpy as np
from embed.store.writer import ShardWriter

folder, fingerprint, first, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with ShardWriter(folder, fingerprint=fingerprint, dim=16, shard_rows=8) as writer:
    for number in range(first, first + rows):
        key = np.frombuffer(hashlib.blake2b(b"%d" % number, digest_size=16).digest(), np.uint8)[None]
        writer.add(key, key.astype(np.float32), np.array([number], np.int32))
        if len(writer.published) * 8 == number - first + 1:
            print(number + 1, flush=True)
"""


@pytest.fixture
def fingerprint():
    """The digest of FACTS."""
    return fingerprint_digest(FACTS)


@pytest.fixture
def folder(tmp_path, fingerprint):
    """An empty fingerprint folder in a store `tmp_path/store`."""
    return create_folder(tmp_path / "store", f"test-fp32-{fingerprint[:16]}", FACTS, {"model": "none"})


@pytest.fixture
def numbered_keys():
    """The keys of numbers, uint8 [N, 16]; the vector of each is its own bytes, its length its number."""

    def make(numbers):
        digests = [hashlib.blake2b(b"%d" % number, digest_size=16).digest() for number in numbers]
        return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)

    return make


@pytest.fixture
def start_writer(folder, fingerprint):
    """Start a process that writes the rows of `first`, `first + 1`, ... and prints how far it has published."""
    started = []

    def start(first, rows):
        arguments = [str(folder), fingerprint, str(first), str(rows)]
        root = Path(__file__).resolve().parents[3]
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, *arguments], cwd=root, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
