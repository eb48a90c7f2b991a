"""Shards of format 2: what is written comes back, memory stays bounded, and every guard of their arrays."""

import hashlib
import json
import tracemalloc

import h5py
import numpy as np
import pytest

from embed.errors import StoreError
from embed.store import writer as writer_module
from embed.store.image import build_residue_shard, build_shard
from embed.store.maintenance import gc, info, merge, verify
from embed.store.reader import Vectors
from embed.store.residue_writer import ResidueWriter
from embed.store.shard import open_shard
from embed.store.writer import ShardWriter

DIM = 8


def content(seed=0, count=12, most=30):
    """Keys, vectors of the residues of each, and lengths, of which some sequences have fewer vectors."""
    rng = np.random.default_rng(seed)
    key_N16 = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    residues = [rng.standard_normal((rows, DIM)).astype(np.float16) for rows in rng.integers(1, most, count).tolist()]
    length_N = np.array(
        [len(residue_LD) + 3 * (number % 4 == 0) for number, residue_LD in enumerate(residues)], np.int32
    )
    return key_N16, residues, length_N


def put(folder, image):
    """Put bytes into the store under the digest they have."""
    path = folder / "shards" / f"{hashlib.sha256(image).hexdigest()}.h5"
    path.write_bytes(image)
    return path


def test_residues_come_back_and_their_mean_as_the_vector(folder, fingerprint):
    """From several shards, in any order and more than once; vectors are the means, which plain readers read."""
    key_N16, residues, length_N = content(count=40)
    with ResidueWriter(folder, fingerprint=fingerprint, dim=DIM, shard_rows=7) as writer:
        writer.add(key_N16[:25], residues[:25], length_N[:25])
        writer.add(key_N16[25:], residues[25:], length_N[25:])
    assert len(writer.published) == 6
    vectors = Vectors(folder)
    asked = np.random.default_rng(1).integers(0, 40, 100)
    location = vectors.find(key_N16[asked])
    expected = [residues[number] for number in asked]
    assert vectors.has_residues
    assert vectors.rows(location).tolist() == [len(each) for each in expected]
    assert vectors.lengths(location).tolist() == length_N[asked].tolist()
    out_TD = np.zeros((sum(map(len, expected)), DIM), np.float16)
    vectors.read_residues(location, out_TD)
    assert out_TD.tobytes() == b"".join(each.tobytes() for each in expected)
    assert [vectors.residues(at).tobytes() for at in location] == [each.tobytes() for each in expected]
    means = [each.astype(np.float64).mean(axis=0) for each in expected]
    np.testing.assert_allclose(vectors.read(location), means, atol=1e-6)
    assert verify(folder.parent) == []


def test_a_reader_made_from_the_specification_reads_it(folder, fingerprint):
    """Plain h5py, no line of ours: names, types, rows that add up, and where each sequence begins."""
    key_N16, residues, length_N = content()
    with ResidueWriter(folder, fingerprint=fingerprint, dim=DIM) as writer:
        writer.add(key_N16, residues, length_N)
    (path,) = writer.published
    with h5py.File(path) as root:
        assert dict(root.attrs) == {"format": 2, "fingerprint": fingerprint.encode()}
        kinds = {"key": "uint8", "length": "int32", "rows": "int32", "vector": "float32", "residues": "float16"}
        assert {name: str(root[name].dtype) for name in root} == kinds
        ends = np.cumsum(root["rows"][()])
        found = {
            key.tobytes(): (int(length), root["residues"][end - rows : end].tobytes())
            for key, length, rows, end in zip(root["key"][()], root["length"][()], root["rows"][()], ends, strict=True)
        }
    expected = {k.tobytes(): (n, r.tobytes()) for k, r, n in zip(key_N16, residues, length_N.tolist(), strict=True)}
    assert found == expected


def test_bytes_are_a_function_of_content_alone(fingerprint):
    """Another order gives the same bytes, of equal keys the first counts, and another residue changes them."""
    key_N16, residues, length_N = content()
    image = build_residue_shard(key_N16, residues, length_N, fingerprint)
    turned = np.random.default_rng(1).permutation(len(key_N16))
    assert build_residue_shard(key_N16[turned], [residues[i] for i in turned], length_N[turned], fingerprint) == image
    again = np.concatenate([key_N16, key_N16[:1]]), [*residues, residues[1]], np.concatenate([length_N, length_N[1:2]])
    assert build_residue_shard(*again, fingerprint) == image
    residues[3] = residues[3] + np.float16(1)
    assert build_residue_shard(key_N16, residues, length_N, fingerprint) != image


def test_shards_are_published_by_bytes_rows_and_age(folder, fingerprint, monkeypatch):
    """Whichever comes first; a sequence larger than a shard has one of its own."""
    clock = [0.0]
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: clock[0])
    key_N16, _, _ = content(count=9)
    writer = ResidueWriter(folder, fingerprint=fingerprint, dim=DIM, shard_rows=3, shard_bytes=10 * DIM * 2)
    published = []
    for number, rows in enumerate([4, 4, 4, 1, 1, 50, 2, 2]):
        clock[0] += 100.0 if number == 7 else 0.0
        residue_LD = np.ones((rows, DIM), np.float16)
        writer.add(key_N16[number : number + 1], [residue_LD], np.array([rows], np.int32))
        published.append(len(writer.published))
    # 4+4 | 4+1+1 (three rows) | 50 | 2+2 (old)
    assert published == [0, 0, 1, 1, 2, 2, 3, 4]
    assert len(Vectors(folder)) == 8


def test_a_writer_takes_memory_for_a_few_shards_however_much_it_writes(folder, fingerprint):
    """Twenty times a shard passes through it; no more than six times a shard is held at any time."""
    shard_bytes, rows = 1 << 20, 1024
    key_N16 = np.random.default_rng(0).integers(0, 256, (20 * 64, 16), dtype=np.uint8)
    writer = ResidueWriter(folder, fingerprint=fingerprint, dim=DIM, shard_bytes=shard_bytes)
    residue_LD = np.ones((rows, DIM), np.float16)
    tracemalloc.start()
    try:
        with writer:
            for key_16 in key_N16:
                writer.add(key_16[None], [residue_LD], np.array([rows], np.int32))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(writer.published) == 20
    assert peak < 6 * shard_bytes


def test_residues_that_do_not_fit_are_refused(folder, fingerprint):
    """Other widths, types, no residue, more residues than the sequence has, infinities by their key."""
    key_N16, residues, length_N = content(count=1)
    writer = ResidueWriter(folder, fingerprint=fingerprint, dim=DIM)
    length = int(length_N[0])
    for wrong in (
        residues[0][:, 1:], residues[0].astype(np.float32), residues[0][:0], np.ones((length + 1, DIM), np.float16)
    ):  # fmt: skip
        with pytest.raises(StoreError, match="is not float16"):
            writer.add(key_N16, [wrong], length_N)
    with pytest.raises(StoreError, match="Shapes"):
        writer.add(key_N16, [], length_N)
    residues[0][-1, 2] = np.inf
    writer.add(key_N16, residues, length_N)
    with pytest.raises(StoreError, match=key_N16[0].tobytes().hex()):
        writer.flush()


def write_by_hand(path, fingerprint, version=2, leave_out=(), **replaced):
    """Write a shard of format 2 by h5py alone, some arrays replaced."""
    key_N16, residues, length_N = content()
    order = sorted(range(len(key_N16)), key=lambda i: key_N16[i].tobytes())
    arrays = {
        "key": key_N16[order],
        "length": length_N[order],
        "vector": np.stack([residues[i].astype(np.float32).mean(axis=0) for i in order]),
        "rows": np.array([len(residues[i]) for i in order], np.int32),
        "residues": np.concatenate([residues[i] for i in order]),
    }
    with h5py.File(path, "w", libver=("v110", "v110")) as root:
        root.attrs["format"], root.attrs["fingerprint"] = np.uint32(version), np.bytes_(fingerprint)
        for name, array in arrays.items():
            made = replaced.get(name, lambda array: array)(array)
            if name in leave_out:
                continue
            root.create_dataset(name, data=made)
        if "more" in replaced:
            root["more"] = [1]


def first_is(value):
    """Replace the first number."""
    return lambda array: np.concatenate([np.array([value], array.dtype), array[1:]])


def moved(array):
    """Let one sequence have a row less and the next one more, so that the sum stays."""
    return array + np.array([-array[0], array[0], *[0] * (len(array) - 2)], array.dtype)


HOSTILE = {
    "no residue of a sequence": {"rows": moved},
    "rows below 0": {"rows": lambda array: array + np.array([-9000, 9000, *[0] * 10], np.int32)},
    "too few rows": {"rows": lambda array: np.maximum(array - 1, 1)},
    "rows beyond the residues": {"rows": lambda array: array + 1, "length": lambda array: array + 9},
    "rows whose sum overflows 32 bits": {
        "rows": lambda array: np.full_like(array, 2**31 - 1), "length": lambda array: np.full_like(array, 2**31 - 1),
    },
    "rows beyond the length": {"length": first_is(0)},
    "a row too few": {"rows": lambda array: array[1:]},
    "rows of 64 bits": {"rows": lambda array: array.astype(np.int64)},
    "residues of 32 bits": {"residues": lambda array: array.astype(np.float32)},
    "residues of another width": {"residues": lambda array: array[:, 1:]},
    "flat residues": {"residues": np.ravel},
    "a residue too few": {"residues": lambda array: array[1:]},
    "no residues at all": {"residues": lambda array: array[:0]},
    "means of 16 bits": {"vector": lambda array: array.astype(np.float16)},
    "a mean too few": {"vector": lambda array: array[1:]},
    "keys that fall": {"key": lambda array: array[::-1]},
    "residues missing": {"leave_out": ("residues",)},
    "rows missing": {"leave_out": ("rows",)},
    "another dataset": {"more": None},
    "the residues of format 1": {"version": 1},
    "format 3": {"version": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_residues_are_refused_by_name(tmp_path, folder, fingerprint, name):
    """Under its right digest, by every door."""
    draft = tmp_path / "draft.h5"
    write_by_hand(draft, fingerprint, **HOSTILE[name])
    path = put(folder, draft.read_bytes())
    with pytest.raises(StoreError, match=path.name):
        open_shard(path, fingerprint=fingerprint)
    with pytest.raises(StoreError, match="bindcache store verify"):
        Vectors(folder)
    assert [problem.path for problem in verify(folder.parent)] == [path]


WRONG_NUMBERS = {
    "a mean that is not theirs": {"vector": lambda array: array + 1},
    "a residue that is no number": {
        "residues": lambda array: np.vstack([np.full((1, DIM), np.nan), array[1:]]).astype("f2")
    },
}


@pytest.mark.parametrize("name", WRONG_NUMBERS)
def test_verify_looks_at_the_numbers(tmp_path, folder, fingerprint, name):
    """Whole arrays of wrong numbers are found by `verify`; by hand and unchanged they are fine."""
    draft = tmp_path / "draft.h5"
    write_by_hand(draft, fingerprint)
    put(folder, draft.read_bytes())
    assert verify(folder.parent) == []
    write_by_hand(draft, fingerprint, **WRONG_NUMBERS[name])
    path = put(folder, draft.read_bytes())
    assert [problem.path for problem in verify(folder.parent)] == [path]


@pytest.mark.parametrize("first", ["plain", "residues"])
def test_both_formats_in_one_folder_are_refused(folder, fingerprint, first):
    """A folder has one format, whichever shard has the lower name."""
    key_N16, residues, length_N = content()
    for seed in range(100):  # until the names are in the order asked for
        vector_ND = np.random.default_rng(seed).standard_normal((12, DIM)).astype(np.float32)
        images = [
            build_residue_shard(key_N16, residues, length_N, fingerprint),
            build_shard(key_N16, vector_ND, length_N, fingerprint),
        ]
        digests = [hashlib.sha256(image).hexdigest() for image in images]
        if (digests[1] < digests[0]) == (first == "plain"):
            break
    higher = max(put(folder, image) for image in images)
    with pytest.raises(StoreError, match=f"{higher.name} holds .*, its folder "):
        Vectors(folder)
    assert [problem.path for problem in verify(folder.parent)] == [higher]


def test_a_folder_of_one_vector_each_has_no_residues(folder, fingerprint):
    """Asking for them says so."""
    with ShardWriter(folder, fingerprint=fingerprint, dim=DIM) as writer:
        key_N16, residues, length_N = content()
        writer.add(key_N16, np.stack([each[0] for each in residues]).astype(np.float32), length_N)
    vectors = Vectors(folder)
    assert not vectors.has_residues
    for ask in (vectors.rows, lambda location_N: vectors.residues(int(location_N[0]))):
        with pytest.raises(StoreError, match="none of residues"):
            ask(vectors.find(key_N16))


def test_a_key_that_is_missing_has_no_residues(folder, fingerprint):
    """Location -1 is nobody's, least of all the last one's."""
    key_N16, residues, length_N = content()
    with ResidueWriter(folder, fingerprint=fingerprint, dim=DIM) as writer:
        writer.add(key_N16[1:], residues[1:], length_N[1:])
    vectors = Vectors(folder)
    missing = vectors.find(key_N16[:1])
    for ask in (vectors.rows, vectors.read, lambda location_N: vectors.residues(int(location_N[0]))):
        with pytest.raises(StoreError, match="1 of 1 vectors are not in the store"):
            ask(missing)


def test_info_gc_and_merge_know_them(tmp_path, folder, fingerprint):
    """A shard that lower ones make redundant goes, what is merged reads the same, and all residues are counted."""
    key_N16, residues, length_N = content()
    images = [build_residue_shard(key_N16, residues, length_N, fingerprint)]
    images += [
        build_residue_shard(key_N16[i : i + 1], residues[i : i + 1], length_N[i : i + 1], fingerprint)
        for i in range(12)
    ]
    for image in images:
        put(folder, image)
    removed = gc(folder.parent)
    assert removed
    (described,) = info(folder.parent)
    assert (described.keys, described.residues, described.dtype) == (12, sum(map(len, residues)), "float16")
    merge(tmp_path / "other", folder.parent)
    copy = Vectors(tmp_path / "other" / folder.name)
    location = copy.find(key_N16)
    assert [copy.residues(at).tobytes() for at in location] == [each.tobytes() for each in residues]
    assert json.loads((tmp_path / "other" / folder.name / "fingerprint.json").read_text())["facts"]
