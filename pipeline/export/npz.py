"""Vectors as NumPy: one .npz with an array for each column, read without pickle."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.export.vectors import Batch, RoleVectors


def write_npz(path: Path, roles: Sequence[RoleVectors]) -> None:
    """Write id, heavy, light ("" where there is none), vector of antibodies, and id, sequence, vector of antigens.

    The arrays are named `antibody_id`, `antibody_vector` float32 [N, D] and so on; a batch is in memory at a time.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for role in roles:
            texts: dict[str, Callable[[Batch], list[str]]] = {"id": lambda batch: batch.ids}
            if role.role == "antibody":
                texts |= {"heavy": lambda batch: _chain(batch, 0), "light": lambda batch: _chain(batch, 1)}
            else:
                texts["sequence"] = lambda batch: _chain(batch, 2)
            for name, read in texts.items():
                longest = max((len(text) for batch in role.batches() for text in read(batch)), default=0)
                kind = np.dtype(f"<U{max(longest, 1)}")
                _write(archive, f"{role.role}_{name}", (len(role),), kind, map(read, role.batches()))
            shape = (len(role), role.width())
            vectors = (batch.vector_BD for batch in role.batches())
            _write(archive, f"{role.role}_vector", shape, np.dtype("<f4"), vectors)


def _write(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: np.dtype[Any], batches: Iterator[npt.ArrayLike]
) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, header)
        for batch in batches:
            file.write(np.asarray(batch, kind).tobytes())


def _chain(batch: Batch, place: int) -> list[str]:
    return [chains[place] or "" for chains in batch.chains]
