"""info, verify, gc and merge."""

import json
import os
import time

import numpy as np
import pytest

from embed.errors import StoreError
from embed.store.image import build_shard
from embed.store.maintenance import gc, info, merge, verify
from embed.store.publish import publish
from embed.store.reader import Vectors
from embed.store.schema import fingerprint_digest
from embed.store.verified import stamp_of
from embed.store.writer import create_folder

DIM = 16


@pytest.fixture
def put(folder, fingerprint, numbered_keys):
    """Publish one shard of numbers in this or another folder; `shift` makes its vectors differ."""

    def publish_shard(numbers, shift=0.0, into=None):
        key_N16 = numbered_keys(numbers)
        image = build_shard(key_N16, key_N16.astype(np.float32) + shift, np.array(numbers, np.int32), fingerprint)
        return publish(image, (into or folder) / "shards")

    return publish_shard


def test_info_counts_what_is_there(folder, fingerprint, put):
    """Distinct keys, shards and bytes of each fingerprint, empty ones too."""
    put(range(10))
    put(range(5, 20))
    empty = create_folder(folder.parent, f"a-{fingerprint_digest({})[:16]}", {}, {"model": "m"})
    (folder.parent / "notes").mkdir()
    first, second = info(folder.parent)
    assert (first.name, first.keys, first.shards, first.dim, first.bytes, first.resolved) == (
        empty.name,
        0,
        0,
        0,
        0,
        {"model": "m"},
    )
    assert (second.name, second.fingerprint, second.keys, second.shards) == (folder.name, fingerprint, 20, 2)
    assert (second.dim, second.dtype, second.facts["encoder"]) == (DIM, "float32", "test")
    assert second.bytes == sum(path.stat().st_size for path in (folder / "shards").iterdir())


@pytest.mark.parametrize("command", [info, verify, gc])
def test_a_store_that_is_not_there_is_named(tmp_path, command):
    """With the way to make one."""
    with pytest.raises(StoreError, match=r"no store at .*nowhere.*bindcache embed"):
        command(tmp_path / "nowhere")


def test_verify_hashes_what_readers_trust(folder, put):
    """What no stamp shows, as a disk that rots, is found by verify alone, and from then on by readers."""
    good, bad = put(range(10)), put(range(10, 20))
    assert verify(folder.parent) == []
    bad.chmod(0o644)
    with bad.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x01\x02\x03")
    remember(folder, bad)
    Vectors(folder)
    problems = verify(folder.parent)
    assert [problem.path for problem in problems] == [bad]
    assert bad.name in problems[0].reason
    assert "bindcache embed" in problems[0].reason
    with pytest.raises(StoreError, match=bad.name):
        Vectors(folder)
    bad.unlink()
    assert verify(folder.parent) == []
    assert len(Vectors(folder)) == 10
    assert good.exists()


def test_a_change_in_place_with_its_time_set_back_is_seen(folder, put):
    """Inode, size and modification time are as they were; the time of change is not, and nobody can set it."""
    bad = put(range(10))
    assert len(Vectors(folder)) == 10
    before = bad.stat()
    bad.chmod(0o644)
    with bad.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x01\x02\x03")
    os.utime(bad, ns=(before.st_atime_ns, before.st_mtime_ns))
    bad.chmod(before.st_mode)
    with pytest.raises(StoreError, match=bad.name):
        Vectors(folder)


def remember(folder, shard):
    """Make readers trust a shard as it is."""
    with shard.open("rb") as file:
        stamps = {shard.name: stamp_of(file)}
    (folder / "verified.json").unlink(missing_ok=True)
    (folder / "verified.json").write_text(json.dumps(stamps))


def test_verify_names_every_problem(folder, fingerprint, put, numbered_keys):
    """One bad shard does not hide another, nor a bad fingerprint the rest of the store."""
    put(range(10))
    bad = [put(range(10, 20)), put(range(20, 30))]
    for path in bad:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1])
    other = create_folder(folder.parent, f"z-{fingerprint_digest({})[:16]}", {}, {})
    (other / "fingerprint.json").unlink()
    (other / "fingerprint.json").write_text("{}")
    assert {problem.path for problem in verify(folder.parent)} == {*bad, other / "fingerprint.json"}


def test_verify_refuses_vectors_that_are_not_finite(folder, fingerprint, put, numbered_keys):
    """Another writer may have published them under their right digest."""
    value = np.float32(3.14159e8)
    image = build_shard(numbered_keys([1]), np.full((1, DIM), value, np.float32), np.ones(1, np.int32), fingerprint)
    path = publish(image.replace(value.tobytes(), np.float32(np.nan).tobytes()), folder / "shards")
    assert [problem.path for problem in verify(folder.parent)] == [path]


def test_gc_removes_shards_whose_keys_are_all_in_lower_ones(folder, put, numbered_keys):
    """Whatever the names turn out to be, every key keeps its value, and what is left is needed."""
    for shift in range(6):
        put(range(10), shift)
    put(range(5, 15))
    put([*range(12), 40])
    vectors, key_N16 = Vectors(folder), numbered_keys([*range(15), 40])
    before, names = vectors.read(vectors.find(key_N16)), sorted(os.listdir(folder / "shards"))
    planned = gc(folder.parent, dry_run=True)
    assert sorted(os.listdir(folder / "shards")) == names
    assert gc(folder.parent) == planned
    after = Vectors(folder)
    assert len(after) == 16
    assert (after.read(after.find(key_N16)) == before).all()
    assert (vectors.read(vectors.find(key_N16)) == before).all()
    assert 5 <= len(planned) == len(names) - len(os.listdir(folder / "shards"))
    assert gc(folder.parent) == []


def test_gc_removes_only_old_temporaries(folder, put):
    """At all three levels, files and folders; a writer at work keeps its own."""
    kept = put(range(10))
    places = [folder.parent, folder, folder / "shards"]
    for place in places:
        (place / ".tmp-host-1-old").write_bytes(b"xxxx")
        (place / ".tmp-host-2-new").write_bytes(b"")
    (folder.parent / ".tmp-host-3-old" / "shards").mkdir(parents=True)
    (folder.parent / ".tmp-host-3-old" / "fingerprint.json").write_text("{}")
    hours_ago = time.time() - 7200
    old = {path for place in places for path in place.glob(".tmp-*old")}
    for path in old:
        os.utime(path, (hours_ago, hours_ago))
    assert {garbage.path for garbage in gc(folder.parent)} == old
    assert not any(path.exists() for path in old)
    assert all((place / ".tmp-host-2-new").exists() for place in places)
    assert kept.exists()


def test_merge_adds_what_is_new(folder, fingerprint, put, numbered_keys, tmp_path):
    """Shards of both are in one, folders are made, equal ones are not copied, the other store is unchanged."""
    other = create_folder(tmp_path / "other", folder.name, {"encoder": "test", "precision": "fp32", "width": 16}, {})
    facts = {"x": 1}
    create_folder(tmp_path / "other", f"x-{fingerprint_digest(facts)[:16]}", facts, {})
    put(range(10))
    put(range(10), into=other)
    new = put(range(10, 30), into=other)
    told: list[tuple[str, int, int]] = []
    merged = merge(folder.parent, tmp_path / "other", lambda *step: told.append(step))
    assert [path.name for path in merged] == [new.name]
    assert told == [("verifying shards", 1, 2), ("verifying shards", 2, 2), ("merging shards", 1, 1)]
    assert merge(folder.parent, tmp_path / "other") == []
    vectors = Vectors(folder)
    assert vectors.read(vectors.find(numbered_keys(range(30)))).tolist() == numbered_keys(range(30)).tolist()
    assert len(info(folder.parent)) == 2
    assert len(os.listdir(other / "shards")) == 2
    assert merge(tmp_path / "third", folder.parent) != []
    assert len(Vectors(tmp_path / "third" / folder.name)) == 30


def test_merge_takes_nothing_from_a_store_that_does_not_verify(folder, put, tmp_path):
    """The first wrong file is named, and nothing was copied."""
    other = create_folder(tmp_path / "other", folder.name, {"encoder": "test", "precision": "fp32", "width": 16}, {})
    put(range(10), into=other)
    bad = put(range(10, 30), into=other)
    bad.chmod(0o644)
    bad.write_bytes(b"")
    with pytest.raises(StoreError, match=f"1 files are wrong.*{bad.name}"):
        merge(folder.parent, tmp_path / "other")
    assert os.listdir(folder / "shards") == []
