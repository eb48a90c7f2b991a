"""Vectors as AnnData: an .h5ad for each role, sequences as observations, as the on-disk format 0.1.0 says.

https://anndata.readthedocs.io/en/latest/fileformat-prose.html
"""

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.export.vectors import RoleVectors

_EMPTY = ("layers", "obsm", "obsp", "uns", "varm", "varp")


def write_h5ad(path: Path, role: RoleVectors) -> None:
    """Write `X` float32 [N, D]; `obs` has the ids as its index, and the chains ("" where there is none)."""
    columns = ("heavy", "light") if role.role == "antibody" else ("sequence",)
    with h5py.File(path, "w") as root:
        _mark(root, "anndata", "0.1.0")
        vectors = root.create_dataset("X", (len(role), role.width()), np.float32)
        _mark(vectors, "array", "0.2.0")
        texts: dict[str, list[str]] = {name: [] for name in ("_index", *columns)}
        row = 0
        for batch in role.batches():
            vectors[row : row + len(batch.ids)] = batch.vector_BD
            row += len(batch.ids)
            texts["_index"] += batch.ids
            for place, name in enumerate(columns, 0 if role.role == "antibody" else 2):
                texts[name] += [chains[place] or "" for chains in batch.chains]
        _frame(root, "obs", texts)
        _frame(root, "var", {"_index": [str(place) for place in range(role.width())]})
        for name in _EMPTY:
            _mark(root.create_group(name), "dict", "0.1.0")
        _texts(root["uns"], "encoders", list(role.encoders))


def _frame(root: h5py.Group, name: str, columns: dict[str, list[str]]) -> None:
    group = root.create_group(name)
    _mark(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    order: npt.NDArray[np.object_] = np.array([column for column in columns if column != "_index"], object)
    group.attrs.create("column-order", order, dtype=h5py.string_dtype())
    for column, texts in columns.items():
        _texts(group, column, texts)


def _texts(group: h5py.Group, name: str, texts: list[str]) -> None:
    _mark(group.create_dataset(name, data=np.array(texts, object), dtype=h5py.string_dtype()), "string-array", "0.2.0")


def _mark(node: h5py.HLObject, kind: str, version: str) -> None:
    node.attrs["encoding-type"], node.attrs["encoding-version"] = kind, version
