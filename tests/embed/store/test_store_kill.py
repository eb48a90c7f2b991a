"""Real writers, really killed."""

import os
import random
import re
import time

import pytest

from embed.store.maintenance import gc, verify
from embed.store.reader import Vectors


@pytest.mark.parametrize("waves", [3, pytest.param(50, marks=pytest.mark.torture)])
def test_killed_writers_leave_whole_shards_or_nothing(folder, start_writer, numbered_keys, figure, waves):
    """Again and again four writers on one folder, each killed at a random moment: what was published reads right."""
    rng, promised, reader = random.Random(0), [], Vectors(folder)
    for wave in range(waves):
        before = len(promised)
        writers = {
            first: start_writer(first, 100_000) for first in range(wave * 10**6, wave * 10**6 + 4 * 10**5, 10**5)
        }
        last = {first: int(writer.stdout.readline()) for first, writer in writers.items()}
        for first in rng.sample(sorted(writers), len(writers)):
            time.sleep(rng.random() / 10)
            writers[first].kill()
        for first, writer in writers.items():
            said = writer.stdout.read().splitlines()
            # the last line may be cut by the kill
            last[first] = max([last[first], *(int(line) for line in said[:-1])])
            assert writer.wait() == -9
            promised += range(first, last[first])
        reader.refresh()
        refuse_wrong(reader, promised[before:], numbered_keys)
    assert verify(folder.parent) == []
    refuse_wrong(Vectors(folder), promised, numbered_keys)
    gc(folder.parent, older_than_s=0)
    assert all(re.fullmatch(r"[0-9a-f]{64}\.h5", name) for name in os.listdir(folder / "shards"))
    assert sorted(os.listdir(folder)) == ["fingerprint.json", "shards", "verified.json"]
    figure("random kills of four writers on one store", waves * 4)


def refuse_wrong(vectors, promised, numbered_keys):
    """Hold what a reader finds against what the writers said."""
    location_N = vectors.find(numbered_keys(promised))
    assert vectors.lengths(location_N).tolist() == promised
    assert vectors.read(location_N).tolist() == numbered_keys(promised).tolist()
    assert len(vectors) % 8 == 0
