"""One shard: building its bytes and opening it with every guard.

Shapes: N rows, D width of a vector, 16 bytes of a sequence key.
"""

import math
import mmap
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embed.errors import StoreError
from embed.store import schema
from embed.store.durable import temporary_name
from embed.store.hdf5 import h5py
from embed.store.verified import WAY_OUT, Stamp, check_digest, open_regular, stamp_of

LIBVER = ("v110", "v110")  # checksummed metadata that every HDF5 since 1.10 reads
PAGE = 4096  # bytes; large datasets start on a page, so that a mapped row touches as few as it can


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRows:
    """Where a shard's vectors lie in its file."""

    path: Path
    stamp: Stamp
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def map(self) -> npt.NDArray[Any]:
        """Map the vectors, read-only [N, D] as stored; the mapping holds one file open.

        Raises:
            StoreError: The file was removed or changed since it was opened first.
        """
        try:
            with open_regular(self.path) as file:
                if stamp_of(file) != self.stamp:  # a link more or less changes it too
                    check_digest(self.path, file)
                pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except FileNotFoundError as error:
            raise StoreError(f"{self.path} was removed while in use: run the same command again.") from error
        return np.frombuffer(pages, self.dtype, math.prod(self.shape), self.offset).reshape(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """An opened shard: keys and lengths in memory, vectors in place."""

    key_N16: npt.NDArray[np.uint8]
    length_N: npt.NDArray[np.int32]
    vector: VectorRows


def build_shard(
    key_N16: npt.NDArray[np.uint8],
    vector_ND: npt.NDArray[np.float32] | npt.NDArray[np.float16],
    length_N: npt.NDArray[np.int32],
    fingerprint: str,
) -> bytes:
    """Make a shard's bytes, a function of its content alone: rows in key order, of equal keys the first.

    Raises:
        StoreError: There is no row, or a vector is not finite.
    """
    key_N16, first_N = np.unique(key_N16, axis=0, return_index=True)
    if not len(key_N16):
        raise StoreError("A shard holds at least 1 row; this one has none.")
    vector_ND, length_N = vector_ND[first_N], length_N[first_N]
    bad_N = ~np.isfinite(vector_ND).all(axis=1)
    if bad_N.any():
        raise StoreError(
            f"The vector of key {key_N16[bad_N][0].tobytes().hex()} is not finite as {vector_ND.dtype} "
            f"({np.count_nonzero(bad_N)} such in this shard): store float32, or encode at a higher precision."
        )
    # libhdf5 crashes on a full disk, so it writes to memory only; two threads may not use one name there.
    with h5py.File(
        temporary_name(),
        "w",
        driver="core",
        backing_store=False,
        libver=LIBVER,
        track_times=False,
        alignment_threshold=PAGE,
        alignment_interval=PAGE,
    ) as root:
        root.attrs.create(schema.VERSION_ATTRIBUTE, schema.FORMAT_VERSION, dtype=schema.VERSION_DTYPE)
        root.attrs.create(schema.FINGERPRINT_ATTRIBUTE, fingerprint.encode(), dtype=schema.FINGERPRINT_DTYPE)
        root.create_dataset(schema.KEY, data=key_N16)
        root.create_dataset(schema.LENGTH, data=length_N, dtype=schema.LENGTH_DTYPE)
        root.create_dataset(schema.VECTOR, data=vector_ND, dtype=vector_ND.dtype.newbyteorder("<"))
        root.flush()
        return bytes(root.id.get_file_image())


def open_shard(path: Path, *, fingerprint: str, dim: int | None = None) -> Shard:
    """Open a shard, trusting nothing in it: libhdf5 only tells where three plain arrays lie.

    `dim` is the width that its vectors have to have; None takes any. The digest is the caller's to check.

    Raises:
        StoreError: The file is not a shard of this fingerprint, format and width.
        FileNotFoundError: The shard is gone.
    """
    with open_regular(path) as file:
        stamp = stamp_of(file)
        try:
            with h5py.File(path, "r", locking=False) as root:
                _check_attributes(root, fingerprint)
                key, length, vector = _find_arrays(root, file_bytes=stamp[1])
            key_N16, length_N = key.read(file), length.read(file)
        except FileNotFoundError:
            raise
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            # h5py says "damaged" in all of these ways
            raise StoreError(f"{path} is no readable shard ({_one_line(error)}). {WAY_OUT}.") from error
        if dim not in (None, vector.shape[1]):
            raise StoreError(f"{path} holds vectors of width {vector.shape[1]}, its folder {dim}. {WAY_OUT}.")
        place = VectorRows(path=path, stamp=stamp, offset=vector.offset, shape=vector.shape, dtype=vector.dtype)
        shard = Shard(key_N16=key_N16, length_N=length_N, vector=place)
    if not _rising(shard.key_N16):
        raise StoreError(f"{path} is no readable shard (its keys do not rise). {WAY_OUT}.")
    return shard


class _NotAShardError(ValueError):
    """What open_shard finds in a file that libhdf5 itself can read."""


@dataclass(frozen=True, slots=True)
class _Array:
    """A plain array inside a file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, file: BufferedReader) -> npt.NDArray[Any]:
        file.seek(self.offset)
        return np.fromfile(file, self.dtype, math.prod(self.shape)).reshape(self.shape)


def _check_attributes(root: h5py.File, fingerprint: str) -> None:
    if h5py.h5a.get_num_attrs(root.id) != 2:
        raise _NotAShardError(f"its root has {h5py.h5a.get_num_attrs(root.id)} attributes instead of 2")
    version = _scalar(root, schema.VERSION_ATTRIBUTE, schema.VERSION_DTYPE)
    if version != schema.FORMAT_VERSION:
        raise _NotAShardError(f"format version {version}, this bindcache reads {schema.FORMAT_VERSION}: update it")
    found = _scalar(root, schema.FINGERPRINT_ATTRIBUTE, schema.FINGERPRINT_DTYPE).decode()
    if found != fingerprint:
        raise _NotAShardError(f"it belongs to fingerprint {found[:16]}, its folder to {fingerprint[:16]}")


def _scalar(root: h5py.File, name: str, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401
    """Read an attribute whose type is known to be plain."""
    attribute = root.attrs.get_id(name)
    if attribute.dtype != dtype or attribute.shape != ():
        raise _NotAShardError(f"attribute {name} is not one {dtype}")
    return root.attrs[name]


def _find_arrays(root: h5py.File, *, file_bytes: int) -> tuple[_Array, _Array, _Array]:
    names = {schema.KEY, schema.VECTOR, schema.LENGTH}
    if len(root) != len(names) or set(root) != names:
        raise _NotAShardError(f"it holds {len(root)} objects instead of {', '.join(sorted(names))}")
    key = _find_array(root, schema.KEY, (schema.KEY_DTYPE,), file_bytes)
    length = _find_array(root, schema.LENGTH, (schema.LENGTH_DTYPE,), file_bytes)
    vector = _find_array(root, schema.VECTOR, schema.VECTOR_DTYPES, file_bytes)
    rows = length.shape[:1]
    if len(vector.shape) != 2 or key.shape != (*rows, schema.KEY_BYTES) or vector.shape[:1] != rows:
        raise _NotAShardError(f"shapes key {key.shape}, vector {vector.shape}, length {length.shape}")
    return key, length, vector


def _find_array(root: h5py.File, name: str, dtypes: tuple[np.dtype[Any], ...], file_bytes: int) -> _Array:
    """Tell where a dataset lies, if it is one plain run of bytes inside this very file."""
    if not isinstance(root.get(name, getlink=True), h5py.HardLink):
        raise _NotAShardError(f"{name} is a link to somewhere else")
    if not isinstance(root[name], h5py.Dataset):
        raise _NotAShardError(f"{name} is no dataset")
    dataset = root[name].id
    kind = dataset.get_type()
    dtype = next((dtype for dtype in dtypes if kind == h5py.h5t.py_create(dtype)), None)
    layout = dataset.get_create_plist()
    if dtype is None or h5py.h5a.get_num_attrs(dataset):
        raise _NotAShardError(f"{name} has another type, or attributes")
    if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_nfilters() or layout.get_external_count():
        raise _NotAShardError(f"{name} is not contiguous and plain in this file")
    offset, size = dataset.get_offset(), math.prod(dataset.shape) * dtype.itemsize
    if not offset or not size or offset + size > file_bytes:
        raise _NotAShardError(f"{name} does not lie within the file")
    return _Array(offset, tuple(dataset.shape), dtype)


def _rising(key_N16: npt.NDArray[np.uint8]) -> bool:
    high_N, low_N = schema.key_halves(key_N16)
    tie_N = high_N[1:] == high_N[:-1]
    return bool(((high_N[1:] > high_N[:-1]) | (tie_N & (low_N[1:] > low_N[:-1]))).all())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
