"""The store against a dict, under everything that can be done to it."""

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from embed.store.maintenance import gc, merge, verify
from embed.store.reader import Vectors
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder

DIM = 2
FACTS = {"made": "for the machine"}
DIGEST = fingerprint_digest(FACTS)
POOL = [bytes([number % 3] * 8 + [number] * 8) for number in range(12)]  # halves collide
ROWS = st.lists(st.tuples(st.sampled_from(POOL), st.integers(0, 3)), max_size=9)
WRITERS = st.sampled_from(["one", "two", "far"])


def as_array(keys):
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)


class Store(RuleBasedStateMachine):
    """Two writers on one store and one on another that is merged in; the model is a dict of shards."""

    @initialize()
    def start(self):
        self.place = Path(tempfile.mkdtemp())
        name = f"x-{DIGEST[:16]}"
        near, far = (create_folder(self.place / store, name, FACTS, {}) for store in ("near", "far"))
        self.folders = {"one": near, "two": near, "far": far}
        self.shards = {near: {}, far: {}}  # folder -> shard name -> key -> value
        self.held = {}
        self.writers = {}
        for who in self.folders:
            self.replace_writer(who)
        self.vectors = Vectors(near)

    def teardown(self):
        if hasattr(self, "place"):
            shutil.rmtree(self.place)

    def replace_writer(self, who):
        self.writers[who] = ShardWriter(self.folders[who], fingerprint=DIGEST, dim=DIM, shard_rows=4)
        self.held[who] = []

    def note_published(self, who, count):
        """Move the rows of shards just published from what is held to the model of the folder."""
        while len(self.writers[who].published) > count:
            rows, self.held[who] = self.held[who][:4], self.held[who][4:]
            shard = {}
            for key, value in rows:
                shard.setdefault(key, value)
            self.shards[self.folders[who]][self.writers[who].published[count].name] = shard
            count += 1

    @rule(who=WRITERS, rows=ROWS)
    def add(self, who, rows):
        """Add rows; each four of one writer are a shard."""
        published = len(self.writers[who].published)
        value_B = np.array([value for _, value in rows], np.float32)
        self.writers[who].add(
            as_array([key for key, _ in rows]), np.stack([value_B, -value_B], 1), value_B.astype(np.int32)
        )
        self.held[who] += rows
        self.note_published(who, published)

    @rule(who=WRITERS)
    def flush(self, who):
        """Publish what is held."""
        published = len(self.writers[who].published)
        self.writers[who].flush()
        self.note_published(who, published)
        assert self.held[who] == []

    @rule(who=WRITERS)
    def kill(self, who):
        """Lose what is held, leave a temporary, start again."""
        (self.folders[who] / "shards" / f".tmp-dead-1-{len(self.held[who])}").write_bytes(b"half a sha")
        self.replace_writer(who)

    @rule()
    def reopen(self):
        """Open the near store anew."""
        self.vectors = Vectors(self.folders["one"])

    @rule()
    def collect(self):
        """Remove what is not needed; no look-up may change."""
        gc(self.folders["one"].parent, older_than_s=0)
        left = {path.name for path in (self.folders["one"] / "shards").iterdir()}
        near = self.shards[self.folders["one"]]
        assert left <= near.keys()
        self.expected_before = self.expected()
        for name in near.keys() - left:
            del near[name]
        assert self.expected() == self.expected_before

    @rule()
    def join(self):
        """Merge the far store into the near one."""
        merge(self.folders["one"].parent, self.folders["far"].parent)
        self.shards[self.folders["one"]] |= self.shards[self.folders["far"]]

    @rule()
    def check(self):
        """Everything on disk is whole."""
        assert verify(self.place / "near") == verify(self.place / "far") == []

    def expected(self):
        """Value of each key: that of the lowest shard name."""
        near, value = self.shards[self.folders["one"]], {}
        for name in sorted(near):
            value = near[name] | value
        return value

    @invariant()
    def reads_as_the_dict(self):
        """Each key of the pool has the value of the model, or is missing."""
        if not hasattr(self, "vectors"):
            return
        self.vectors.refresh()
        expected = self.expected()
        location_N = self.vectors.find(as_array(POOL))
        assert [key for key, location in zip(POOL, location_N, strict=True) if location >= 0] == [
            key for key in POOL if key in expected
        ]
        found = location_N[location_N >= 0]
        values = [float(expected[key]) for key in POOL if key in expected]
        assert self.vectors.lengths(found).tolist() == values
        assert self.vectors.read(found).tolist() == [[value, -value] for value in values]
        assert len(self.vectors) == len(expected)


TestStore = Store.TestCase
TestStore.settings = settings(deadline=None, max_examples=25, stateful_step_count=25)
