"""Damaged shards: each byte, cut, page and place, read in a process of its own, which must neither crash nor believe.

The short form samples what the long form (`-m torture`) does in full.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embed.errors import StoreError
from embed.store.image import build_residue_shard, build_shard
from embed.store.maintenance import verify
from embed.store.quarantine import quarantine
from embed.store.reader import Vectors

PROGRAM = """
import json, os, random, sys
from pathlib import Path
from embed.errors import StoreError
from embed.store.maintenance import verify
from embed.store.reader import Vectors
from embed.store.verified import stamp_of

path, kind, step, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
folder, image, rng = path.parent.parent, path.read_bytes(), random.Random(seed)
remembered, before = folder / "verified.json", path.stat()
with path.open("rb") as file:
    trusted = json.dumps({path.name: stamp_of(file)})
pages = range(0, len(image), 4096)


def bits():
    for at in range(0, len(image), step):
        yield at, bytes([image[at] ^ 1 << rng.randrange(8)])
        yield at, bytes([image[at] ^ 255])


def flips():
    for _ in range(step):
        at = rng.randrange(len(image))
        yield at, bytes([image[at] ^ 1 << rng.randrange(8)])


def cuts():
    ends = {*range(0, len(image), 512), *range(0, 4096, step), *range(len(image) - 4096, len(image), step)}
    return ((size, None) for size in sorted(ends))


def zeroed():
    return ((at, bytes(4096)) for at in pages if any(image[at : at + 4096]))


def swapped():
    for _ in range(step):
        one, other = sorted(rng.sample(pages[:-1], 2))
        yield one, image[other : other + 4096] + image[one + 4096 : other] + image[one : one + 4096]


def refused(read):
    try:
        read()
    except StoreError as error:
        return path.name in str(error)
    return False


tried, silent = 0, []
with path.open("r+b", buffering=0) as file:
    for at, content in globals()[kind]():
        if content is None:
            file.truncate(at)
        elif image[at : at + len(content)] == content:
            continue
        else:
            file.seek(at)
            file.write(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        tried += 1
        named = [problem.path for problem in verify(folder.parent)] == [path]
        remembered.unlink(missing_ok=True)
        fresh = refused(lambda: Vectors(folder))
        remembered.unlink(missing_ok=True)
        remembered.write_text(trusted)
        if not (named and fresh and refused(lambda: Vectors(folder))):
            silent.append(at)
        file.seek(at if content is not None else 0)
        file.write(image[at : at + len(content)] if content is not None else image)
print(json.dumps([tried, silent]))
"""

TORTURE = pytest.mark.torture


def make_shard(folder, fingerprint, rows, dim, seed=0, *, residues=0):
    """Put a shard of random rows, with so many vectors of residues each, under its name, writable."""
    rng = np.random.default_rng(seed)
    key_N16 = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
    if residues:
        states = list(rng.standard_normal((rows, residues, dim)).astype(np.float16))
        image = build_residue_shard(key_N16, states, np.full(rows, residues, np.int32), fingerprint)
    else:
        vector_ND = rng.standard_normal((rows, dim)).astype(np.float32)
        image = build_shard(key_N16, vector_ND, rng.integers(1, 900, rows, dtype=np.int32), fingerprint)
    path = folder / "shards" / f"{hashlib.sha256(image).hexdigest()}.h5"
    path.write_bytes(image)
    return path


@pytest.mark.parametrize(
    ("kind", "rows", "dim", "step"),
    [
        ("bits", 12, 16, 17),
        ("bits of residues", 4, 8, 23),
        ("flips", 4096, 1280, 12),
        ("cuts", 200, 64, 97),
        ("zeroed", 200, 64, 1),
        ("swapped", 200, 64, 60),
        pytest.param("bits", 12, 16, 1, marks=TORTURE),
        pytest.param("bits of residues", 4, 8, 1, marks=TORTURE),
        pytest.param("flips", 4096, 1280, 2000, marks=TORTURE),
        pytest.param("cuts", 200, 64, 1, marks=TORTURE),
        pytest.param("zeroed", 4096, 128, 1, marks=TORTURE),
        pytest.param("swapped", 4096, 128, 500, marks=TORTURE),
    ],
)
def test_no_damage_is_silent_or_crashes(folder, fingerprint, figure, kind, rows, dim, step):
    """Changed in place, times set back: refused by name by verify, and by readers that remember the shard or do not."""
    kind, *residues = kind.split(" of ")
    path = make_shard(folder, fingerprint, rows, dim, residues=5 * len(residues))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(path), kind, str(step), "0"],
        cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tried, silent = json.loads(done.stdout)
    assert silent == []
    assert tried > 10
    figure(f"damaged shards, {kind}", tried)


def test_shards_in_each_others_place_are_refused(folder, fingerprint, figure):
    """Two whole shards swapped, and one in place of another: whole is not enough, it must be the one of that name."""
    one, other = (make_shard(folder, fingerprint, 12, 16, seed) for seed in (0, 1))
    Vectors(folder)
    images = one.read_bytes(), other.read_bytes()
    one.write_bytes(images[1])
    with pytest.raises(StoreError, match=one.name):
        Vectors(folder)
    assert [problem.path for problem in verify(folder.parent)] == [one]
    other.write_bytes(images[0])
    assert {problem.path for problem in verify(folder.parent)} == {one, other}
    figure("damaged shards, swapped with another", 2)


IN_ITS_PLACE = {
    "a folder": Path.mkdir,
    "a folder with a file": lambda path: path.mkdir() or (path / "file").write_bytes(b"x"),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a pipe": lambda path: os.mkfifo(path),
    "nothing but a name": lambda path: path.write_bytes(b""),
    "other bytes": lambda path: path.write_bytes(b"not a shard"),
}


def test_repair_moves_what_is_wrong_and_nothing_else(folder, fingerprint, figure):
    """Whatever stands in a shard's place goes to quarantine/ as it is; whole shards stay and are read."""
    good = make_shard(folder, fingerprint, 12, 16)
    wrong = {}
    for number, (name, put) in enumerate(IN_ITS_PLACE.items()):
        wrong[folder / "shards" / f"{number:064x}.h5"] = name
        put(folder / "shards" / f"{number:064x}.h5")
    problems = verify(folder.parent)
    assert {problem.path for problem in problems} == set(wrong)
    inodes = {path.name: path.lstat().st_ino for path in wrong}
    moved = [quarantine(problem.path) for problem in problems]
    assert {to.name: to.lstat().st_ino for to in moved} == inodes
    assert {to.parent for to in moved} == {folder / "quarantine"}
    assert verify(folder.parent) == []
    assert os.listdir(folder / "shards") == [good.name]
    assert len(Vectors(folder)) == 12
    figure("damaged shards, other things in their place", len(wrong))


def test_what_is_quarantined_twice_is_kept_twice(folder, fingerprint):
    """The second damaged file of one name does not replace the first."""
    texts = []
    for text in ("one", "two"):
        path = folder / "shards" / f"{0:064x}.h5"
        path.write_text(text)
        texts.append(quarantine(path).read_text())
    assert texts == ["one", "two"]
    assert len(os.listdir(folder / "quarantine")) == 2


READ_CUT = """
import os, sys
from pathlib import Path
import numpy as np
from embed.store.reader import Vectors
path = Path(sys.argv[1])
vectors = Vectors(path.parent.parent)
location_N = np.arange(len(vectors))
vectors.read(location_N)
os.truncate(path, 8192)
print(vectors.read(location_N).sum())
"""


def test_a_shard_cut_short_under_a_reader_ends_it_and_gives_no_number(folder, fingerprint):
    """FORMAT.md forbids it; who breaks that rule kills the readers with SIGBUS, and no made-up vector is handed out."""
    path = make_shard(folder, fingerprint, 200, 64)
    done = subprocess.run(
        [sys.executable, "-c", READ_CUT, str(path)],
        cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.returncode != 0
