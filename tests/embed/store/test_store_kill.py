"""Real writers, really killed."""

import os
import random
import re
import time

from embed.store.maintenance import gc, verify
from embed.store.reader import Vectors


def test_killed_writers_leave_whole_shards_or_nothing(folder, start_writer, numbered_keys):
    """Three times five writers on one folder, each killed at a random moment: all that was published reads right."""
    rng, promised = random.Random(0), []
    for wave in range(3):
        writers = {
            first: start_writer(first, 100_000) for first in range(wave * 10**6, wave * 10**6 + 5 * 10**5, 10**5)
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
        assert verify(folder.parent) == []
        vectors = Vectors(folder)
        location_N = vectors.find(numbered_keys(promised))
        assert vectors.lengths(location_N).tolist() == promised
        assert vectors.read(location_N).tolist() == numbered_keys(promised).tolist()
        assert len(vectors) % 8 == 0
    gc(folder.parent, older_than_s=0)
    assert all(re.fullmatch(r"[0-9a-f]{64}\.h5", name) for name in os.listdir(folder / "shards"))
    assert sorted(os.listdir(folder)) == ["fingerprint.json", "shards", "verified.json"]
