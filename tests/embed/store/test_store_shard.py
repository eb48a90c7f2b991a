"""A shard's bytes, and every guard of the one function that opens one."""

import hashlib
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from embed.errors import StoreError
from embed.store.image import build_shard
from embed.store.maintenance import verify
from embed.store.reader import Vectors
from embed.store.shard import open_shard

ROWS, DIM = 12, 16


def content(seed=0, rows=ROWS, dtype=np.float32):
    rng = np.random.default_rng(seed)
    key_N16 = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
    return key_N16, rng.standard_normal((rows, DIM)).astype(dtype), rng.integers(1, 900, rows, dtype=np.int32)


def in_key_order(key_N16):
    return sorted(range(len(key_N16)), key=lambda i: key_N16[i].tobytes())


@pytest.fixture
def plant(tmp_path, folder):
    """Put bytes, or what a function writes to a path, into the store under the digest it would have."""

    def put(image):
        if callable(image):
            draft = tmp_path / "draft.h5"
            draft.unlink(missing_ok=True)
            image(draft)
            image = draft.read_bytes()
        path = folder / "shards" / f"{hashlib.sha256(image).hexdigest()}.h5"
        path.write_bytes(image)
        return path

    return put


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_shard_gives_back_its_rows_in_key_order(plant, fingerprint, dtype):
    """Keys, lengths and vectors come back bit for bit, rows sorted by key."""
    key_N16, vector_ND, length_N = content(dtype=dtype)
    shard = open_shard(plant(build_shard(key_N16, vector_ND, length_N, fingerprint)), fingerprint=fingerprint, dim=DIM)
    order = in_key_order(key_N16)
    assert shard.key_N16.tobytes() == key_N16[order].tobytes()
    assert shard.length_N.tolist() == length_N[order].tolist()
    assert shard.vector.dtype == dtype
    assert shard.vector.map().tobytes() == vector_ND[order].tobytes()


def test_bytes_are_a_function_of_content_alone(fingerprint):
    """Another order, second and process with dirty memory give the same bytes; other content does not."""
    key_N16, vector_ND, length_N = content()
    image = build_shard(key_N16, vector_ND, length_N, fingerprint)
    turned = np.random.default_rng(1).permutation(ROWS)
    time.sleep(1.1)  # HDF5 times have whole seconds
    assert build_shard(key_N16[turned], vector_ND[turned], length_N[turned], fingerprint) == image
    program = (
        "import numpy as np, hashlib, sys; from embed.store.image import build_shard\n"
        "rng = np.random.default_rng(0); key = rng.integers(0, 256, (12, 16), dtype=np.uint8)\n"
        "vector = rng.standard_normal((12, 16)).astype(np.float32); length = rng.integers(1, 900, 12, dtype=np.int32)\n"
        "print(hashlib.sha256(build_shard(key, vector, length, sys.argv[1])).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, fingerprint],
        cwd=Path(__file__).resolve().parents[3], env=os.environ | {"MALLOC_PERTURB_": "165"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == hashlib.sha256(image).hexdigest()
    vector_ND[3, 3] += 1
    assert build_shard(key_N16, vector_ND, length_N, fingerprint) != image


def test_of_equal_keys_in_one_shard_the_first_counts(plant, fingerprint):
    """A key added twice before its shard is published is there once."""
    key_N16, vector_ND, length_N = content()
    key_N16[7] = key_N16[2]
    shard = open_shard(plant(build_shard(key_N16, vector_ND, length_N, fingerprint)), fingerprint=fingerprint)
    assert len(shard.key_N16) == ROWS - 1
    place = [key.tobytes() for key in shard.key_N16].index(key_N16[2].tobytes())
    assert shard.vector.map()[place].tobytes() == vector_ND[2].tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_key(fingerprint, value):
    """The message names the key."""
    key_N16, vector_ND, length_N = content()
    vector_ND[5, 0] = value
    with pytest.raises(StoreError, match=key_N16[5].tobytes().hex()):
        build_shard(key_N16, vector_ND, length_N, fingerprint)


def test_an_empty_shard_is_refused(fingerprint):
    """There is no shard of no rows."""
    with pytest.raises(StoreError, match="at least 1 row"):
        build_shard(*content(rows=0), fingerprint)


def write_plain(path, *, leave_out=(), attributes=None, **replaced):
    """Write a shard by h5py alone; a function in `replaced` makes that dataset itself."""
    key_N16, vector_ND, length_N = content()
    order = in_key_order(key_N16)
    arrays = {"key": key_N16[order], "vector": vector_ND[order], "length": length_N[order]}
    with h5py.File(path, "w", libver=("v110", "v110")) as root:
        for name, value in (attributes or {}).items():
            root.attrs[name] = value
        for name, array in arrays.items():
            if name in leave_out:
                continue
            made = replaced.get(name, array)
            if callable(made):
                made(root, name, array)
            else:
                root.create_dataset(name, data=made)


def proper(fingerprint):
    return {"format": np.uint32(1), "fingerprint": np.bytes_(fingerprint)}


def elsewhere(root, array):
    """Write an array to another HDF5 file that a hostile shard points to."""
    path = Path(root.filename).with_name("elsewhere.h5")
    with h5py.File(path, "w") as other:
        other["secret"] = array
    return path


def external_link(root, name, array):
    root[name] = h5py.ExternalLink(elsewhere(root, array), "secret")


def soft_link(root, name, array):
    root["length"] = np.arange(ROWS, dtype=np.int32)
    root[name] = h5py.SoftLink("/length")


def external_storage(root, name, array):
    path = Path(root.filename).with_name("secret.bin")
    path.write_bytes(array.tobytes())
    root.create_dataset(name, array.shape, array.dtype, external=[(str(path), 0, array.nbytes)])


def virtual(root, name, array):
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[...] = h5py.VirtualSource(elsewhere(root, array), "secret", array.shape)
    root.create_virtual_dataset(name, layout)


def declared(*shape, **options):
    return lambda root, name, array: root.create_dataset(name, shape, array.dtype, **options)


def stored(**options):
    return lambda root, name, array: root.create_dataset(name, data=array, **options)


def typed(dtype):
    return lambda root, name, array: root.create_dataset(name, data=array.astype(dtype))


def compact(root, name, array):
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(array.shape)
    h5py.h5d.create(root.id, name.encode(), h5py.h5t.py_create(array.dtype), space, layout).write(
        h5py.h5s.ALL, h5py.h5s.ALL, array
    )


def odd_float(root, name, array):
    """Declare a 4-byte float with another exponent bias, which numpy does not know."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    space = h5py.h5s.create_simple(array.shape)
    h5py.h5d.create(root.id, name.encode(), kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, array)


def with_attribute(root, name, array):
    root.create_dataset(name, data=array).attrs["note"] = 1


def text(root, name, array):
    root.create_dataset(name, data=["a"] * ROWS, dtype=h5py.string_dtype())


def extra(make):
    """Keep the vectors as they should be and add something beside them."""

    def put(root, name, array):
        root.create_dataset(name, data=array)
        make(root)

    return put


def unknown_filter(root, name, array):
    """Store through a filter that libhdf5 would look for in its plugin folders."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk(array.shape)
    layout.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple(array.shape)
    made = h5py.h5d.create(root.id, name.encode(), h5py.h5t.py_create(array.dtype), space, layout)
    made.write_direct_chunk((0, 0), array.tobytes())


HOSTILE = {
    "external link": {"vector": external_link},
    "soft link": {"vector": soft_link, "leave_out": ("length",)},
    "soft link to nowhere": {"vector": lambda root, name, array: root.__setitem__(name, h5py.SoftLink("/none"))},
    "external storage": {"vector": external_storage},
    "external storage of keys": {"key": external_storage},
    "virtual": {"vector": virtual},
    "virtual keys": {"key": virtual},
    "4 TiB declared": {"vector": declared(ROWS, 1 << 36)},
    "4 TiB of chunks declared": {"vector": declared(ROWS, 1 << 36, chunks=(1, 1024))},
    "huge rows everywhere": {
        "key": declared(1 << 40, 16), "vector": declared(1 << 40, DIM), "length": declared(1 << 40),
    },
    "never written": {"vector": declared(ROWS, DIM)},
    "chunked": {"vector": stored(chunks=(4, DIM))},
    "compressed": {"vector": stored(compression="gzip")},
    "fletcher32": {"vector": stored(fletcher32=True)},
    "resizable": {"vector": stored(maxshape=(None, DIM))},
    "compact": {"length": compact},
    "big-endian": {"vector": typed(">f4")},
    "float64": {"vector": typed("<f8")},
    "odd float": {"vector": odd_float},
    "int64 lengths": {"length": typed("<i8")},
    "float lengths": {"length": typed("<f4")},
    "signed keys": {"key": typed("i1")},
    "text": {"length": text},
    "a row too few": {"length": lambda root, name, array: root.create_dataset(name, data=array[1:])},
    "keys of 15 bytes": {"key": lambda root, name, array: root.create_dataset(name, data=array[:, 1:])},
    "flat vectors": {"vector": lambda root, name, array: root.create_dataset(name, data=array[:, 0])},
    "one number": {"length": lambda root, name, array: root.create_dataset(name, data=np.int32(1))},
    "no rows": {"key": declared(0, 16), "vector": declared(0, DIM), "length": declared(0)},
    "falling keys": {"key": lambda root, name, array: root.create_dataset(name, data=array[::-1])},
    "equal keys": {"key": lambda root, name, array: root.create_dataset(name, data=array[[0, 0, *range(2, ROWS)]])},
    "group instead": {"vector": lambda root, name, array: root.create_group(name)},
    "type instead": {"vector": lambda root, name, array: root.__setitem__(name, np.dtype("<f4"))},
    "dataset missing": {"leave_out": ("length",)},
    "object references": {
        "vector": lambda root, name, array: root.create_dataset(name, (ROWS, DIM), h5py.ref_dtype, fillvalue=None),
    },
    "compound": {"vector": lambda root, name, array: root.create_dataset(name, (ROWS, DIM), [("a", "<f4")])},
    "sequences of any length": {
        "vector": lambda root, name, array: root.create_dataset(name, (ROWS,), h5py.vlen_dtype("<f4")),
    },
    "an unknown filter": {"vector": unknown_filter},
    "10,000 extra objects": {"vector": extra(lambda root: [root.create_group(str(n)) for n in range(10_000)])},
    "extra dataset": {"vector": extra(lambda root: root.create_dataset("more", data=[1]))},
    "extra group": {"vector": extra(lambda root: root.create_group("more"))},
    "extra link": {"vector": extra(lambda root: root.__setitem__("more", h5py.SoftLink("/key")))},
    "attribute on a dataset": {"vector": with_attribute},
}  # fmt: skip


@pytest.mark.parametrize("padding", [0, 8192])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name(plant, folder, fingerprint, name, padding):
    """Under its right digest, everything that is not the three plain arrays is refused by every door."""

    def write(draft):
        write_plain(draft, attributes=proper(fingerprint), **HOSTILE[name])
        with draft.open("ab") as file:  # so that offsets in another file would lie within this one
            file.write(b"\0" * padding)

    path = plant(write)
    with pytest.raises(StoreError, match=path.name):
        open_shard(path, fingerprint=fingerprint)
    with pytest.raises(StoreError, match="bindcache store verify"):
        Vectors(folder)
    assert [problem.path for problem in verify(folder.parent)] == [path]


ATTRIBUTES = {
    "none": lambda right: {},
    "no version": lambda right: {"fingerprint": right["fingerprint"]},
    "no fingerprint": lambda right: {"format": right["format"]},
    "extra": lambda right: {**right, "note": 1},
    "10,000 extra": lambda right: right | {f"note{n}": n for n in range(10_000)},
    "a large version": lambda right: {**right, "format": np.ones(15_000, np.uint32)},
    "version as a compound": lambda right: {**right, "format": np.array((1,), [("a", "<u4")])},
    "version of variable length": lambda right: {**right, "format": np.array([1], object).astype("S")},
    "version as a reference": lambda right: {**right, "format": h5py.h5r.Reference()},
    "version 2": lambda right: {**right, "format": np.uint32(2)},
    "version as a list": lambda right: {**right, "format": np.array([1], np.uint32)},
    "version as text": lambda right: {**right, "format": "1"},
    "fingerprint of variable length": lambda right: {**right, "fingerprint": right["fingerprint"].decode()},
    "another fingerprint": lambda right: {**right, "fingerprint": np.bytes_("0" * 64)},
    "a fingerprint that is no text": lambda right: {**right, "fingerprint": np.bytes_(b"\xff" * 64)},
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_wrong_attributes_are_refused(plant, folder, fingerprint, name):
    """Version and fingerprint, and nothing else, as FORMAT.md types them."""
    path = plant(lambda draft: write_plain(draft, attributes=ATTRIBUTES[name](proper(fingerprint))))
    with pytest.raises(StoreError, match=path.name):
        Vectors(folder)


@pytest.mark.parametrize("options", [{}, {"libver": "earliest"}, {"userblock_size": 512}])
def test_a_shard_written_by_others_is_read(plant, folder, fingerprint, options):
    """FORMAT.md binds the content, not the library, its version bounds or a user block."""

    def write(path):
        write_plain(path, attributes=proper(fingerprint))
        if options:
            with (
                h5py.File(path, "r") as plain,
                h5py.File(path.with_suffix(".other"), "w", **options) as other,
            ):
                other.attrs.update(plain.attrs)
                for name in plain:
                    other[name] = plain[name][...]
            path.with_suffix(".other").replace(path)

    plant(write)
    key_N16, vector_ND, length_N = content()
    vectors = Vectors(folder)
    assert vectors.read(vectors.find(key_N16)).tobytes() == vector_ND.tobytes()
    assert vectors.lengths(vectors.find(key_N16)).tolist() == length_N.tolist()


def test_another_width_is_refused(plant, folder, fingerprint):
    """The width of a folder is that of its first shard, and the other one is named."""
    key_N16, vector_ND, length_N = content()
    paths = [plant(build_shard(key_N16, vector_ND[:, :width], length_N, fingerprint)) for width in (3, DIM)]
    with pytest.raises(StoreError, match=max(path.name for path in paths)):
        Vectors(folder)
    with pytest.raises(StoreError, match="width 3, its folder 4"):
        open_shard(paths[0], fingerprint=fingerprint, dim=4)


def test_another_precision_of_storage_is_refused(plant, folder, fingerprint):
    """Float16 and float32 are never mixed silently."""
    paths = [
        plant(build_shard(*content(seed, dtype=dtype), fingerprint))
        for seed, dtype in enumerate((np.float16, np.float32))
    ]
    with pytest.raises(StoreError, match=max(path.name for path in paths)):
        Vectors(folder)


NOT_FILES = {
    "folder": lambda path, image: path.mkdir(),
    "dangling link": lambda path, image: path.symlink_to("nowhere"),
    "link to a good shard": lambda path, image: (path.parent / "good").write_bytes(image) and path.symlink_to("good"),
    "link to itself": lambda path, image: path.symlink_to(path.name),
    "named pipe": lambda path, image: os.mkfifo(path),
    "zero bytes": lambda path, image: path.write_bytes(b""),
    "text": lambda path, image: path.write_bytes(b"not found\n" * 100),
    "another shard": lambda path, image: path.write_bytes(image[:-1] + b"x"),
}


@pytest.mark.parametrize("name", NOT_FILES)
def test_what_stands_in_a_shards_place_is_refused(folder, fingerprint, name):
    """A folder, a link, a pipe or other bytes under a shard's name are refused, named, and never waited for."""
    image = build_shard(*content(), fingerprint)
    path = folder / "shards" / f"{hashlib.sha256(image).hexdigest()}.h5"
    NOT_FILES[name](path, image)
    with pytest.raises(StoreError, match=path.name):
        Vectors(folder)
    assert [problem.path for problem in verify(folder.parent)] == [path]


def test_damaged_metadata_under_a_right_digest_never_crashes(tmp_path):
    """Flips that libhdf5 gets to see, in a process of their own: a shard or a StoreError, and nothing else."""
    program = """
import random, sys
from pathlib import Path
import numpy as np
from embed.errors import StoreError
from embed.store.image import build_shard
from embed.store.shard import open_shard
key = np.random.default_rng(0).integers(0, 256, (9, 16), dtype=np.uint8)
image = build_shard(key, np.ones((9, 8), np.float32), np.ones(9, np.int32), "a" * 64)
path, rng, refused = Path(sys.argv[1]), random.Random(0), 0
for _ in range(600):
    damaged = bytearray(image)
    for _ in range(rng.choice([1, 1, 2, 8, 50])):
        damaged[rng.randrange(2200)] ^= 1 << rng.randrange(8)
    path.write_bytes(damaged)
    try:
        open_shard(path, fingerprint="a" * 64, dim=8).vector.map().sum()
    except StoreError:
        refused += 1
print(refused)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "shard.h5")],
        cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300


def test_a_mapping_is_read_only_and_where_the_file_says(plant, fingerprint):
    """Vectors are not copied and cannot be changed."""
    image = build_shard(*content(), fingerprint)
    shard = open_shard(plant(image), fingerprint=fingerprint)
    vectors_ND = shard.vector.map()
    assert not vectors_ND.flags.writeable
    size = math.prod(vectors_ND.shape) * 4
    assert image[shard.vector.offset : shard.vector.offset + size] == vectors_ND.tobytes()
