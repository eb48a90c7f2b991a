"""`bindcache store export`: the vectors of one table as Parquet, for other tools."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from embed.fingerprint import find_sources
from embed.sequences import antibody_keys, antigen_keys
from embed.stage import read_table
from embed.store.reader import Vectors
from pipeline.config import Config
from pipeline.errors import ConfigError

# N sequences of one role, B of one row group, D width of a vector

_ROWS = 4096
_SCHEMA = pa.schema(
    [
        ("role", pa.string()),
        ("heavy", pa.string()),
        ("light", pa.string()),
        ("antigen", pa.string()),
        ("vector", pa.list_(pa.float32())),
    ]
)

Chains = tuple[str | None, str | None, str | None]
"""Heavy, light, antigen; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Sequences of one role whose vectors lie in one folder."""

    role: str
    chains: list[Chains]
    vectors: Vectors
    location: npt.NDArray[np.int64]


def export_vectors(config: Config, out: Path, *, progress: Callable[[str, int, int], None]) -> int:
    """Write one row per distinct encoder input of the table, and return how many.

    Columns: role (`antibody` or `antigen`), heavy, light, antigen (null where there is none), vector.

    Raises:
        ConfigError: Vectors are missing, or `out` has no folder.
        EmbedError: The table, an encoder or the store cannot be used as it is.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it, or name another.")
    batches = _find(config)
    total = sum(len(batch.chains) for batch in batches)
    missing = sum(int((batch.location < 0).sum()) for batch in batches)
    if missing:
        raise ConfigError(f"{missing:,} of {total:,} vectors are not in the store; run `bindcache embed` first.")
    part, done = out.with_name(f".{out.name}.part"), 0
    with pa.parquet.ParquetWriter(part, _SCHEMA) as writer:
        for batch in batches:
            for group in _row_groups(batch):
                writer.write_table(group)
                done += group.num_rows
                progress("exporting vectors", done, total)
    part.replace(out)
    return total


def _find(config: Config) -> list[_Batch]:
    table, sources = read_table(config.embed, config.pairs), find_sources(config.embed)
    paired = [antibody for antibody in table.antibodies if antibody[1] is not None]
    single = [antibody for antibody in table.antibodies if antibody[1] is None]
    return [
        _batch(
            "antibody",
            sources.paired.folder,
            [(*antibody, None) for antibody in paired],
            antibody_keys(paired),
        ),
        _batch(
            "antibody",
            sources.single.folder,
            [(*antibody, None) for antibody in single],
            antibody_keys(single),
        ),
        _batch(
            "antigen",
            sources.antigen.folder,
            [(None, None, a) for a in table.antigens],
            antigen_keys(table.antigens),
        ),
    ]


def _batch(role: str, folder: Path, chains: list[Chains], key_NK: npt.NDArray[np.uint8]) -> _Batch:
    vectors = Vectors(folder)
    return _Batch(role=role, chains=chains, vectors=vectors, location=vectors.find(key_NK))


def _row_groups(batch: _Batch) -> Iterator[pa.Table]:
    for start in range(0, len(batch.chains), _ROWS):
        chains = batch.chains[start : start + _ROWS]
        vector_BD = batch.vectors.read(batch.location[start : start + _ROWS])
        ends = np.arange(len(chains) + 1, dtype=np.int32) * vector_BD.shape[1]
        heavy, light, antigen = zip(*chains, strict=True)
        arrays = [
            pa.array([batch.role] * len(chains)),
            *(pa.array(column, pa.string()) for column in (heavy, light, antigen)),
            pa.ListArray.from_arrays(pa.array(ends), pa.array(vector_BD.ravel())),
        ]
        yield pa.Table.from_arrays(arrays, schema=_SCHEMA)
