"""Opening one shard, with every guard.

Shapes: N sequences, T residues of all of them, D width of a vector, 16 bytes of a sequence key.
"""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embed.errors import StoreError
from embed.store import schema
from embed.store.hdf5 import h5py
from embed.store.verified import WAY_OUT, Stamp, check_digest, open_regular, stamp_of

_IN_PLACE = (schema.VECTOR, schema.RESIDUES)
_DTYPES: Mapping[int, Mapping[str, tuple[np.dtype[Any], ...]]] = {
    schema.FORMAT_VERSION: {
        schema.KEY: (schema.KEY_DTYPE,),
        schema.LENGTH: (schema.LENGTH_DTYPE,),
        schema.VECTOR: schema.VECTOR_DTYPES,
    },
    schema.RESIDUE_VERSION: {
        schema.KEY: (schema.KEY_DTYPE,),
        schema.LENGTH: (schema.LENGTH_DTYPE,),
        schema.VECTOR: (schema.MEAN_DTYPE,),
        schema.ROWS: (schema.ROWS_DTYPE,),
        schema.RESIDUES: (schema.RESIDUES_DTYPE,),
    },
}
"""The arrays of a shard, by its format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRows:
    """Where a shard's vectors lie in its file."""

    path: Path
    stamp: Stamp
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def map(self) -> npt.NDArray[Any]:
        """Map the vectors, read-only [N, D] or [T, D] as stored; the mapping holds one file open.

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
    """An opened shard: keys, lengths and rows in memory, vectors in place."""

    key_N16: npt.NDArray[np.uint8]
    length_N: npt.NDArray[np.int32]
    vector: VectorRows
    rows_N: npt.NDArray[np.int32] | None = None
    """Residues of each sequence that have a vector; None in a shard of format 1."""
    residues: VectorRows | None = None
    """Their vectors, end to end, [T, D]; None in a shard of format 1."""

    @property
    def kind(self) -> str:
        """What all shards of a folder must have in common beside the width."""
        return f"{self.vector.dtype}" if self.residues is None else "vectors of residues"


def open_shard(path: Path, *, fingerprint: str, dim: int | None = None) -> Shard:
    """Open a shard, trusting nothing in it: libhdf5 only tells where three or five plain arrays lie.

    `dim` is the width that its vectors have to have; None takes any. The digest is the caller's to check.

    Raises:
        StoreError: The file is not a shard of this fingerprint, format and width.
        FileNotFoundError: The shard is gone.
    """
    with open_regular(path) as file:
        stamp = stamp_of(file)
        try:
            with h5py.File(path, "r", locking=False) as root:
                version = _check_attributes(root, fingerprint)
                arrays = _find_arrays(root, version, file_bytes=stamp[1])
            in_memory = {name: array.read(file) for name, array in arrays.items() if name not in _IN_PLACE}
            if version == schema.RESIDUE_VERSION:
                _check_rows(in_memory[schema.ROWS], in_memory[schema.LENGTH], arrays[schema.RESIDUES])
        except FileNotFoundError:
            raise
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            # h5py says "damaged" in all of these ways
            raise StoreError(f"{path} is no readable shard ({_one_line(error)}). {WAY_OUT}.") from error
    places = {name: arrays[name].at(path, stamp) for name in _IN_PLACE if name in arrays}
    vector = places[schema.VECTOR]
    if dim not in (None, vector.shape[1]):
        raise StoreError(f"{path} holds vectors of width {vector.shape[1]}, its folder {dim}. {WAY_OUT}.")
    shard = Shard(
        key_N16=in_memory[schema.KEY],
        length_N=in_memory[schema.LENGTH],
        vector=vector,
        rows_N=in_memory.get(schema.ROWS),
        residues=places.get(schema.RESIDUES),
    )
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

    def at(self, path: Path, stamp: Stamp) -> VectorRows:
        return VectorRows(path=path, stamp=stamp, offset=self.offset, shape=self.shape, dtype=self.dtype)


def _check_attributes(root: h5py.File, fingerprint: str) -> int:
    if h5py.h5a.get_num_attrs(root.id) != 2:
        raise _NotAShardError(f"its root has {h5py.h5a.get_num_attrs(root.id)} attributes instead of 2")
    version = int(_scalar(root, schema.VERSION_ATTRIBUTE, schema.VERSION_DTYPE))
    known = (schema.FORMAT_VERSION, schema.RESIDUE_VERSION)
    if version not in known:
        raise _NotAShardError(f"format version {version}, this bindcache reads {known[0]} and {known[1]}: update it")
    found = _scalar(root, schema.FINGERPRINT_ATTRIBUTE, schema.FINGERPRINT_DTYPE).decode()
    if found != fingerprint:
        raise _NotAShardError(f"it belongs to fingerprint {found[:16]}, its folder to {fingerprint[:16]}")
    return version


def _scalar(root: h5py.File, name: str, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401
    """Read an attribute whose type is known to be plain."""
    attribute = root.attrs.get_id(name)
    if attribute.dtype != dtype or attribute.shape != ():
        raise _NotAShardError(f"attribute {name} is not one {dtype}")
    return root.attrs[name]


def _find_arrays(root: h5py.File, version: int, *, file_bytes: int) -> dict[str, _Array]:
    dtypes = _DTYPES[version]
    if len(root) != len(dtypes) or set(root) != set(dtypes):
        raise _NotAShardError(f"it holds {len(root)} objects instead of {', '.join(sorted(dtypes))}")
    arrays = {name: _find_array(root, name, allowed, file_bytes) for name, allowed in dtypes.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {schema.KEY: (*shapes[schema.LENGTH][:1], schema.KEY_BYTES), schema.LENGTH: shapes[schema.LENGTH][:1]}
    width = shapes[schema.VECTOR][1:2]
    expected[schema.VECTOR] = (*expected[schema.LENGTH], *width)
    if version == schema.RESIDUE_VERSION:
        expected[schema.ROWS] = expected[schema.LENGTH]
        expected[schema.RESIDUES] = (*shapes[schema.RESIDUES][:1], *width)
    if shapes != expected or len(shapes[schema.VECTOR]) != 2:
        raise _NotAShardError("shapes " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
    return arrays


def _check_rows(rows_N: npt.NDArray[np.int32], length_N: npt.NDArray[np.int32], residues: _Array) -> None:
    """Refuse rows by which somebody would read beside the residues; sums are int64, which no int32 overflows."""
    if not ((rows_N >= 1) & (rows_N <= length_N)).all():
        raise _NotAShardError("its rows are not between 1 and the length of their sequence")
    if int(rows_N.sum(dtype=np.int64)) != residues.shape[0]:
        raise _NotAShardError(f"its rows do not add up to {residues.shape[0]}, the vectors of residues that it holds")


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
