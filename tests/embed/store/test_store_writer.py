"""Publishing: whole or not at all, when it is due, and with nothing left behind."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from embed.errors import StoreError
from embed.store import disk
from embed.store import writer as writer_module
from embed.store.publish import publish
from embed.store.reader import Vectors
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder

DIM = 16


@pytest.fixture
def rows(numbered_keys):
    """Rows of numbers as `ShardWriter.add` takes them."""

    def make(numbers):
        key_N16 = numbered_keys(numbers)
        return key_N16, key_N16.astype(np.float32), np.array(numbers, np.int32)

    return make


def shard_files(folder):
    return sorted(os.listdir(folder / "shards"))


def test_rows_are_published_when_a_shard_is_full(folder, fingerprint, rows):
    """Batches larger and smaller than a shard make full shards, the rest waits for the end."""
    with ShardWriter(folder, fingerprint=fingerprint, dim=DIM, shard_rows=10) as writer:
        writer.add(*rows(range(25)))
        assert len(writer.published) == 2
        writer.add(*rows(range(25, 29)))
        writer.add(*rows(range(29, 31)))
        assert len(writer.published) == 3
        assert len(Vectors(folder)) == 30
    assert shard_files(folder) == sorted(path.name for path in writer.published)
    assert len(Vectors(folder)) == 31


def test_rows_are_published_when_the_first_is_old(folder, fingerprint, rows, monkeypatch):
    """A row waits `max_seconds` for others, counted from the first row of its own shard."""
    clock = [1000.0]
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: clock[0])
    writer = ShardWriter(folder, fingerprint=fingerprint, dim=DIM, max_seconds=60)
    for now, published in ((1000, 0), (1059, 0), (1060, 1), (1100, 1), (1159, 1), (1160, 2)):
        clock[0] = now
        writer.add(*rows([now]))
        assert len(writer.published) == published
    writer.flush()
    assert len(writer.published) == 2


def test_the_callers_arrays_may_be_used_again(folder, fingerprint, rows):
    """Rows are copied when they are added."""
    key, vector, length = (array.copy() for array in rows(range(4)))
    with ShardWriter(folder, fingerprint=fingerprint, dim=DIM) as writer:
        writer.add(key, vector, length)
        vector[:], length[:] = -1, -1
    vectors = Vectors(folder)
    assert vectors.read(vectors.find(key)).tolist() == key.tolist()


def test_an_exception_publishes_no_more(folder, fingerprint, rows):
    """Whole shards stay, what was held is dropped, and nothing lies about."""
    writer = ShardWriter(folder, fingerprint=fingerprint, dim=DIM, shard_rows=4)

    def use():
        with writer:
            writer.add(*rows(range(6)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        use()
    assert shard_files(folder) == [writer.published[0].name]


def test_two_writers_of_the_same_rows_leave_one_shard(folder, fingerprint, rows):
    """Equal content is one file, whoever comes second, and whatever the order of the rows."""
    writers = [ShardWriter(folder, fingerprint=fingerprint, dim=DIM) for _ in range(4)]
    for number, writer in enumerate(writers):
        writer.add(*rows(range(20) if number % 2 else range(19, -1, -1)))
    threads = [threading.Thread(target=writer.flush) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path for writer in writers for path in writer.published} == {folder / "shards" / shard_files(folder)[0]}
    assert len(shard_files(folder)) == 1


def test_float16_is_half_the_size_and_read_as_float32(folder, fingerprint, rows):
    """Vectors are rounded to float16 as numpy rounds them."""
    key, vector, length = rows(range(300))
    vector = vector / 7
    with ShardWriter(folder, fingerprint=fingerprint, dim=DIM, dtype="float16") as writer:
        writer.add(key, vector, length)
    vectors = Vectors(folder)
    found = vectors.read(vectors.find(key))
    assert (vectors.dtype, found.dtype) == (np.float16, np.float32)
    assert found.tolist() == vector.astype(np.float16).astype(np.float32).tolist()


def test_a_vector_too_large_for_float16_is_refused(folder, fingerprint, rows):
    """It would be stored as infinity."""
    key, vector, length = rows(range(3))
    writer = ShardWriter(folder, fingerprint=fingerprint, dim=DIM, dtype="float16")
    writer.add(key, vector + 1e5, length)
    with pytest.raises(StoreError, match=r"not finite as float16.*float32"):
        writer.flush()
    assert shard_files(folder) == []


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_shapes_that_numpy_would_stretch_are_refused(folder, fingerprint, rows, wrong):
    """One vector for three keys is a mistake, not a broadcast."""
    arrays = list(rows(range(3)))
    arrays[wrong] = arrays[wrong][:1]
    with pytest.raises(StoreError, match="Shapes"):
        ShardWriter(folder, fingerprint=fingerprint, dim=DIM).add(*arrays)


def test_short_writes_are_completed(folder, fingerprint, rows, monkeypatch):
    """A system that writes 100 bytes at a time gets all of them."""
    whole = os.write
    monkeypatch.setattr(disk, "write", lambda descriptor, data: whole(descriptor, data[:100]))
    with ShardWriter(folder, fingerprint=fingerprint, dim=DIM) as writer:
        writer.add(*rows(range(50)))
    monkeypatch.undo()
    assert len(Vectors(folder)) == 50


def test_a_real_limit_of_the_kernel_does_not_crash_the_writer(folder, fingerprint):
    """A file may not grow over 8 KiB: libhdf5 would end the process, ours gets an OSError and goes on."""
    program = """
import errno, os, resource, sys
from pathlib import Path
import numpy as np
from embed.store.writer import ShardWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
writer = ShardWriter(Path(sys.argv[1]), fingerprint=sys.argv[2], dim=16)
key = np.random.default_rng(0).integers(0, 256, (400, 16), dtype=np.uint8)
writer.add(key, key.astype(np.float32), np.ones(400, np.int32))
try:
    writer.flush()
except OSError as error:
    print(error.errno == errno.EFBIG, os.listdir(Path(sys.argv[1]) / "shards"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), fingerprint],
        cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True []\n"), done.stderr


def test_a_filesystem_without_hard_links_is_served(folder, fingerprint, rows, monkeypatch):
    """Some network and FUSE filesystems refuse links; a rename publishes as well."""

    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(disk, "link", refuse)
    with ShardWriter(folder, fingerprint=fingerprint, dim=DIM) as writer:
        writer.add(*rows(range(9)))
    assert shard_files(folder) == [writer.published[0].name]
    assert len(Vectors(folder)) == 9


def test_publishing_twice_is_fine_and_durable_in_order(folder, monkeypatch):
    """Data reach the disk before the name exists, and the name before the temporary goes."""
    log = []
    for name in ("fsync", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(
            disk, name, lambda *arguments, real=real, name=name: (log.append(name), real(*arguments))[1]
        )
    first = publish(b"some bytes", folder / "shards")
    assert log == ["fsync", "link", "fsync"]
    assert publish(b"some bytes", folder / "shards") == first
    assert shard_files(folder) == [first.name]
    assert not first.stat().st_mode & 0o222


def test_a_folder_is_made_once_and_says_what_it_is(tmp_path):
    """The facts can be read by people, the digest of their canonical JSON names the folder."""
    facts = {"precision": "int8", "encoder": "esm2", "threshold": 6.0, "window": [1022, 511]}
    digest = fingerprint_digest(dict(reversed(facts.items())))
    assert digest == fingerprint_digest(facts) != fingerprint_digest(facts | {"threshold": 5.0})
    name = f"esm2-int8-{digest[:16]}"
    made = [create_folder(tmp_path / "new" / "store", name, facts, {"model": model}) for model in ("a", "b")]
    assert made == [tmp_path / "new" / "store" / name] * 2
    assert json.loads((made[0] / "fingerprint.json").read_text()) == {"facts": facts, "resolved": {"model": "a"}}
    assert sorted(os.listdir(tmp_path / "new" / "store")) == [name]
    assert Vectors(made[0]).fingerprint == digest


def test_a_name_that_does_not_fit_its_facts_is_refused(tmp_path):
    """Neither when the folder is made nor when its file was changed later."""
    with pytest.raises(StoreError, match="does not end in"):
        create_folder(tmp_path, "esm2-int8-0123456789abcdef", {"a": 1}, {})
    folder = create_folder(tmp_path, f"esm2-int8-{fingerprint_digest({'a': 1})[:16]}", {"a": 1}, {})
    (folder / "fingerprint.json").chmod(0o644)
    for content in ('{"facts": {"a": 2}, "resolved": {}}', '{"facts": 1}', "{", "[]", '{"facts": {}}'):
        (folder / "fingerprint.json").write_text(content)
        with pytest.raises(StoreError, match=r"fingerprint\.json"):
            create_folder(tmp_path, folder.name, {"a": 1}, {})
        with pytest.raises(StoreError, match=r"fingerprint\.json"):
            Vectors(folder)


def test_many_make_the_same_folder_at_once(tmp_path):
    """Array jobs start together; each gets the one folder, and no temporary stays."""
    facts, made = {"a": 1}, []
    name = f"x-{fingerprint_digest(facts)[:16]}"
    threads = [
        threading.Thread(target=lambda: made.append(create_folder(tmp_path / "store", name, facts, {})))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [tmp_path / "store" / name] * 8
    assert os.listdir(tmp_path / "store") == [name]


def test_a_folder_that_cannot_be_finished_leaves_nothing(tmp_path, monkeypatch):
    """A full disk while the folder is made is an OSError, and the folder is not there."""

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        create_folder(tmp_path / "store", f"x-{fingerprint_digest({})[:16]}", {}, {})
    assert os.listdir(tmp_path / "store") == []
