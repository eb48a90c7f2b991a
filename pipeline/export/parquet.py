"""Vectors as Parquet: one row for each sequence, both roles in one file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from pipeline.export.vectors import Batch, RoleVectors

_SCHEMA = pa.schema(
    [
        ("role", pa.string()),
        ("id", pa.string()),
        ("heavy", pa.string()),
        ("light", pa.string()),
        ("antigen", pa.string()),
        ("vector", pa.list_(pa.float32())),
    ]
)


def write_parquet(path: Path, roles: Sequence[RoleVectors]) -> None:
    """Write role, id, heavy, light, antigen (null where there is none) and vector."""
    with pa.parquet.ParquetWriter(path, _SCHEMA) as writer:
        for role in roles:
            for batch in role.batches():
                writer.write_table(_table(role.role, batch))


def _table(role: str, batch: Batch) -> pa.Table:
    ends = np.arange(len(batch.ids) + 1, dtype=np.int32) * batch.vector_BD.shape[1]
    arrays = [
        pa.array([role] * len(batch.ids)),
        pa.array(batch.ids, pa.string()),
        *(pa.array(column, pa.string()) for column in zip(*batch.chains, strict=True)),
        pa.ListArray.from_arrays(pa.array(ends), pa.array(batch.vector_BD.ravel())),
    ]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)
