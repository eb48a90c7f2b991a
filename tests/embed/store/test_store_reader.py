"""Reading: what was added comes back, in any order, while others write, with few files open."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.errors import StoreError
from embed.store import disk
from embed.store import reader as reader_module
from embed.store import verified as verified_module
from embed.store.image import build_shard
from embed.store.publish import publish
from embed.store.reader import Vectors
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder

DIM = 16


@pytest.fixture
def fill(folder, fingerprint, numbered_keys):
    """Publish shards of 10 rows for the numbers of a range."""

    def publish_rows(numbers):
        key_N16 = numbered_keys(numbers)
        with ShardWriter(folder, fingerprint=fingerprint, dim=DIM, shard_rows=10) as writer:
            writer.add(key_N16, key_N16.astype(np.float32), np.array(numbers, np.int32))
        return writer.published

    return publish_rows


@pytest.fixture
def fill_and_settle(fill):
    """Publish, and wait until the files are old enough to be remembered."""

    def publish_rows(numbers):
        paths = fill(numbers)
        time.sleep(0.1)
        return paths

    return publish_rows


def assert_right(vectors, key_N16, numbers):
    location_N = vectors.find(key_N16)
    assert vectors.read(location_N).tolist() == key_N16.tolist()
    assert vectors.lengths(location_N).tolist() == list(numbers)


def test_a_folder_that_does_not_exist_is_empty(tmp_path, numbered_keys):
    """Nothing is found in it, and nothing is made on the disk."""
    vectors = Vectors(tmp_path / "none")
    assert (len(vectors), vectors.dim, vectors.fingerprint) == (0, 0, "")
    assert vectors.find(numbered_keys(range(3))).tolist() == [-1, -1, -1]
    assert vectors.read(vectors.find(numbered_keys([]))).shape == (0, 0)
    assert os.listdir(tmp_path) == []


@settings(deadline=None, max_examples=40)
@given(
    rows=st.dictionaries(
        st.binary(min_size=16, max_size=16),
        st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 2**31 - 1)),
        max_size=40,
    ),
    shard_rows=st.integers(1, 15),
    batch=st.integers(1, 20),
    random=st.randoms(use_true_random=False),
)
def test_what_is_read_is_what_was_added(tmp_path_factory, rows, shard_rows, batch, random):
    """read(find(keys)) and lengths(find(keys)) in any order, with repeats, and -1 for the rest."""
    facts = {"any": "thing"}
    digest = fingerprint_digest(facts)
    folder = create_folder(tmp_path_factory.mktemp("s"), f"x-{digest[:16]}", facts, {})
    keys = list(rows)
    with ShardWriter(folder, fingerprint=digest, dim=3, shard_rows=shard_rows) as writer:
        for start in range(0, len(keys), batch):
            some = keys[start : start + batch]
            key_B16 = np.frombuffer(b"".join(some), np.uint8).reshape(-1, 16)
            value_B = np.array([rows[key][0] for key in some], np.float32)
            writer.add(
                key_B16, np.stack([value_B, -value_B, value_B], 1), np.array([rows[key][1] for key in some], np.int32)
            )
    vectors = Vectors(folder)
    asked = random.choices([*keys, b"\x00" * 15 + b"\x07"], k=60)
    location_N = vectors.find(np.frombuffer(b"".join(asked), np.uint8).reshape(-1, 16))
    assert (location_N >= 0).tolist() == [key in rows for key in asked]
    there = [key for key in asked if key in rows]
    if there:
        found = vectors.read(location_N[location_N >= 0])
        assert found[:, 0].tolist() == [rows[key][0] for key in there]
        assert found[:, 1].tolist() == [-rows[key][0] for key in there]
        assert vectors.lengths(location_N[location_N >= 0]).tolist() == [rows[key][1] for key in there]
    assert len(vectors) == len(rows)


def test_many_rows_in_any_order_into_a_given_array(folder, fill, numbered_keys):
    """Thousands of random reads with repeats over many shards, into the caller's buffer."""
    fill(range(500))
    vectors = Vectors(folder)
    number_N = np.random.default_rng(0).integers(0, 500, 20_000)
    key_N16 = numbered_keys(number_N.tolist())
    out_ND = np.full((20_000, DIM), -1, np.float32)
    assert vectors.read(vectors.find(key_N16), out_ND) is out_ND
    assert (out_ND == key_N16).all()


def test_a_missing_vector_is_refused_with_the_way_out(folder, fill, numbered_keys):
    """Location -1 is never read as the last row."""
    fill(range(5))
    vectors = Vectors(folder)
    location_N = vectors.find(numbered_keys([3, 99, 4]))
    assert (location_N < 0).tolist() == [False, True, False]
    for door in (vectors.read, vectors.lengths):
        with pytest.raises(StoreError, match="1 of 3 vectors are not in the store: run `bindcache embed`"):
            door(location_N)


def test_the_lowest_shard_name_wins(folder, fingerprint, numbered_keys):
    """Three shards share a key with three values; publishing order and refreshing do not matter."""
    key_N16 = numbered_keys([7])
    images = {
        value: build_shard(key_N16, np.full((1, DIM), value, np.float32), np.ones(1, np.int32), fingerprint)
        for value in (1, 2, 3)
    }
    by_name = sorted(images, key=lambda value: hashlib.sha256(images[value]).hexdigest(), reverse=True)
    vectors = Vectors(folder)
    for value in by_name:
        publish(images[value], folder / "shards")
        vectors.refresh()
        for opened in (vectors, Vectors(folder)):
            assert opened.read(opened.find(key_N16))[0, 0] == value
            assert len(opened) == 1


def test_refresh_sees_more_and_locations_stay_good(folder, fill, numbered_keys):
    """What was found before is still read right after shards came and went."""
    vectors = Vectors(folder)
    fill(range(40))
    vectors.refresh()
    before = vectors.find(numbered_keys(range(40)))
    gone = fill(range(100, 110))
    fill(range(200, 230))
    vectors.refresh()
    assert_right(vectors, numbered_keys([5, 105, 205]), [5, 105, 205])
    gone[0].unlink()
    vectors.refresh()
    assert (vectors.find(numbered_keys([5, 105, 205])) < 0).tolist() == [False, True, False]
    assert vectors.read(before).tolist() == numbered_keys(range(40)).tolist()
    assert len(vectors) == 70


def test_names_that_are_no_shards_are_ignored(folder, fill, numbered_keys):
    """Temporaries, notes and near misses are neither read nor refused."""
    path = fill(range(10))[0]
    for name in (
        ".tmp-host-1-ab",
        "README",
        "a" * 63 + ".h5",
        "A" * 64 + ".h5",
        "a" * 64,
        "g" * 64 + ".h5",
        path.name + "~",
    ):
        (folder / "shards" / name).write_bytes(b"litter")
    (folder / "shards" / "folder").mkdir()
    assert_right(Vectors(folder), numbered_keys(range(10)), range(10))


def test_few_files_stay_open_however_many_shards(folder, fill, numbered_keys, monkeypatch):
    """Mappings beyond the kept ones are closed again, and read the same."""
    monkeypatch.setattr(reader_module, "KEPT_MAPPINGS", 3)
    fill(range(200))
    vectors = Vectors(folder)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert_right(vectors, numbered_keys(range(200)), range(200))
    assert len(os.listdir("/proc/self/fd")) <= before + 3


@pytest.fixture
def hashed(monkeypatch):
    """The number of shards hashed so far."""
    count, real = [], hashlib.file_digest

    def counted(file, name):
        count.append(file.name)
        return real(file, name)

    monkeypatch.setattr(verified_module.hashlib, "file_digest", counted)
    return count


def test_a_shard_is_hashed_at_first_sight_and_when_it_changed(folder, fill_and_settle, hashed):
    """Opening again hashes nothing; a new inode, size or time of one shard hashes that one."""
    paths = fill_and_settle(range(30))
    for expected in (3, 0, 0):
        hashed.clear()
        Vectors(folder)
        assert len(hashed) == expected
    os.utime(paths[0], ns=(1, 1))
    paths[1].rename(folder / "old")
    paths[1].write_bytes((folder / "old").read_bytes())
    before = (folder / "old").stat()
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    hashed.clear()
    Vectors(folder)
    assert len(hashed) == 2


def test_a_change_after_the_first_opening_is_found(folder, fill):
    """Damage is noticed at the next opening, and by a reader that has not read the shard yet."""
    path = fill(range(10))[0]
    vectors = Vectors(folder)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x99")
    os.utime(path, ns=(1, 1))
    with pytest.raises(StoreError, match=path.name):
        vectors.read(np.zeros(1, np.int64))
    with pytest.raises(StoreError, match=path.name):
        Vectors(folder)
    path.unlink()
    with pytest.raises(StoreError, match="removed while in use"):
        vectors.read(np.zeros(1, np.int64))


def test_a_shard_that_just_changed_is_not_remembered(folder, fill, hashed, monkeypatch):
    """Its times move by the kernel's ticks: within one it could change again and look the same."""
    monkeypatch.setattr(verified_module, "_TICK_NS", 10**12)
    fill(range(30))
    Vectors(folder)
    hashed.clear()
    Vectors(folder)
    assert len(hashed) == 3


def test_a_link_more_or_less_is_no_change(folder, fill, numbered_keys):
    """The writer unlinks its temporary when readers may have the shard open: its bytes count."""
    path = fill(range(10))[0]
    vectors = Vectors(folder)
    os.link(path, folder / "another")
    assert_right(vectors, numbered_keys(range(10)), range(10))


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[1]", b'{"a": 1}', b'{"a": [1, 2]}', b'{"a": ["x", 1, 1, 1]}', b"\xff", b"[" * 100_000],
)
def test_what_is_remembered_may_be_lost_or_spoilt(folder, fill_and_settle, hashed, content):
    """Without a readable `verified.json` everything is hashed again, and it is whole afterwards."""
    paths = fill_and_settle(range(30))
    Vectors(folder)
    remembered = folder / "verified.json"
    remembered.unlink()
    if content is not None:
        remembered.write_bytes(content)
    hashed.clear()
    assert len(Vectors(folder)) == 30
    assert len(hashed) == 3
    assert sorted(json.loads(remembered.read_bytes())) == sorted(path.name for path in paths)


def test_a_folder_that_cannot_be_written_is_read(folder, fill, numbered_keys, monkeypatch):
    """What cannot be remembered is hashed each time, silently."""
    fill(range(10))

    def refuse(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(verified_module, "replace_file", refuse)
    assert_right(Vectors(folder), numbered_keys(range(10)), range(10))
    assert sorted(os.listdir(folder)) == ["fingerprint.json", "shards"]


def test_a_full_disk_does_not_keep_readers_out(folder, fill, numbered_keys, monkeypatch):
    """What cannot be remembered leaves no temporary either."""
    fill(range(10))

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write", fail)
    assert_right(Vectors(folder), numbered_keys(range(10)), range(10))
    assert sorted(os.listdir(folder)) == ["fingerprint.json", "shards"]


def test_a_shard_removed_while_opening_is_passed_over(folder, fill, monkeypatch):
    """Another process may collect a redundant shard between our listing and our opening."""
    paths = fill(range(20))
    monkeypatch.setattr(
        reader_module, "shard_paths", lambda _: sorted([*paths, folder / "shards" / ("0" * 64 + ".h5")])
    )
    assert len(Vectors(folder)) == 20


def test_a_reader_keeps_up_with_writers_in_other_processes(folder, start_writer, numbered_keys):
    """While two processes publish, each refresh sees at least what they have said, and only right values."""
    writers, said = {first: start_writer(first, 400) for first in (0, 10_000)}, {0: 0, 10_000: 10_000}

    def listen(first):
        for line in writers[first].stdout:
            said[first] = int(line)

    threads = [threading.Thread(target=listen, args=(first,)) for first in writers]
    for thread in threads:
        thread.start()
    vectors = Vectors(folder)
    while any(thread.is_alive() for thread in threads):
        promised = [number for first in writers for number in range(first, said[first])]
        vectors.refresh()
        assert_right(vectors, numbered_keys(promised), promised)
    vectors.refresh()
    assert len(vectors) == 800
    assert len(Vectors(folder)) == 800


def test_the_store_needs_no_torch():
    """Not even everything of it together."""
    program = (
        "import sys, embed.store.maintenance, embed.store.reader, embed.store.writer\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'pyarrow', 'scipy'}))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
