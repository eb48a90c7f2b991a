"""The bytes of a shard, a function of its content alone.

Shapes: N sequences, T residues of all of them, D width of a vector, 16 bytes of a sequence key.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from embed.errors import StoreError
from embed.store import schema
from embed.store.durable import temporary_name
from embed.store.hdf5 import h5py

_LIBVER = ("v110", "v110")  # checksummed metadata that every HDF5 since 1.10 reads
_PAGE = 4096  # bytes; large datasets start on a page, so that a mapped row touches as few as it can


def build_shard(
    key_N16: npt.NDArray[np.uint8],
    vector_ND: npt.NDArray[np.float32] | npt.NDArray[np.float16],
    length_N: npt.NDArray[np.int32],
    fingerprint: str,
) -> bytes:
    """Make a shard's bytes: rows in key order, of equal keys the first.

    Raises:
        StoreError: There is no row, or a vector is not finite.
    """
    key_N16, first_N = _in_key_order(key_N16)
    vector_ND = vector_ND[first_N]
    _refuse_infinite(key_N16, vector_ND, "store float32, or encode at a higher precision")
    arrays: dict[str, npt.NDArray[Any]] = {
        schema.KEY: key_N16,
        schema.LENGTH: _int32(length_N[first_N]),
        schema.VECTOR: vector_ND,
    }
    return _image(schema.FORMAT_VERSION, fingerprint, arrays)


def build_residue_shard(
    key_N16: npt.NDArray[np.uint8],
    residues: Sequence[npt.NDArray[np.float16]],
    length_N: npt.NDArray[np.int32],
    fingerprint: str,
) -> bytes:
    """Make the bytes of a shard with a vector for each residue: sequences in key order, of equal keys the first.

    Args:
        key_N16: Sequence keys.
        residues: Vectors of the residues of each sequence, [rows, D].
        length_N: Residues of each sequence, of which `rows` have a vector.
        fingerprint: Of the folder.

    Raises:
        StoreError: There is no sequence, or a vector is not finite.
    """
    key_N16, first_N = _in_key_order(key_N16)
    ordered = [residues[first] for first in first_N.tolist()]
    mean_ND = np.stack([mean_of(residue_LD) for residue_LD in ordered])
    _refuse_infinite(key_N16, mean_ND, "encode at a higher precision")  # a mean is finite if all of its rows are
    return _image(
        schema.RESIDUE_VERSION,
        fingerprint,
        {
            schema.KEY: key_N16,
            schema.LENGTH: _int32(length_N[first_N]),
            schema.VECTOR: mean_ND,
            schema.ROWS: _int32(np.array([len(residue_LD) for residue_LD in ordered])),
            schema.RESIDUES: np.concatenate(ordered),
        },
    )


def mean_of(residue_LD: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Average the vectors of a sequence's residues, float32 [D]."""
    with np.errstate(invalid="ignore"):  # infinities of both signs; what is not finite is refused by its key
        mean_D: npt.NDArray[np.float32] = residue_LD.mean(axis=0, dtype=np.float32)
    return mean_D


def _in_key_order(key_N16: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Sort keys; the second value tells where the first of each equals was."""
    key_N16, first_N = np.unique(key_N16, axis=0, return_index=True)
    if not len(key_N16):
        raise StoreError("A shard holds at least 1 row; this one has none.")
    return key_N16, first_N


def _refuse_infinite(key_N16: npt.NDArray[np.uint8], vector_ND: npt.NDArray[Any], way_out: str) -> None:
    bad_N = ~np.isfinite(vector_ND).all(axis=1)
    if bad_N.any():
        raise StoreError(
            f"The vector of key {key_N16[bad_N][0].tobytes().hex()} is not finite as {vector_ND.dtype} "
            f"({np.count_nonzero(bad_N)} such in this shard): {way_out}."
        )


def _int32(number_N: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    return number_N.astype(schema.LENGTH_DTYPE)


def _image(version: int, fingerprint: str, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Make an HDF5 file with these arrays, in this order, and a shard's two attributes."""
    # libhdf5 crashes on a full disk, so it writes to memory only; two threads may not use one name there.
    with h5py.File(
        temporary_name(),
        "w",
        driver="core",
        backing_store=False,
        libver=_LIBVER,
        track_times=False,
        alignment_threshold=_PAGE,
        alignment_interval=_PAGE,
    ) as root:
        root.attrs.create(schema.VERSION_ATTRIBUTE, version, dtype=schema.VERSION_DTYPE)
        root.attrs.create(schema.FINGERPRINT_ATTRIBUTE, fingerprint.encode(), dtype=schema.FINGERPRINT_DTYPE)
        for name, array in arrays.items():
            root.create_dataset(name, data=array, dtype=array.dtype.newbyteorder("<"))
        root.flush()
        return bytes(root.id.get_file_image())
