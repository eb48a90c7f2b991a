"""The pairs table: from the user's file to distinct pairs of normalised sequences with their pKd.

Array suffixes: R data rows of the file, A accepted rows, N pairs, C distinct cells of a column.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embed.affinity import Unit, check_range
from embed.changes import count_changes
from embed.doubts import warn_of_ids, warn_of_sequences
from embed.errors import PairsError
from embed.measured import Affinities, list_wide, merge_affinities
from embed.merging import DistinctPairs, find_pairs, split_of_pairs
from embed.rejected import RejectedRow, Rejections, write_rejected
from embed.rows import (
    Censored,
    Codes,
    SequenceColumn,
    Sides,
    read_affinities,
    read_sequences,
    reject_blank,
    reject_shared_ids,
)
from embed.table import Column, Floats, Table, read_columns
from embed.texts import Antibodies, Texts

__all__ = ["PairTable", "PairsConfig", "RejectedRow", "read_pairs", "write_rejected"]

_NO_LIGHT = (
    'no light chain, and embed.single_chain = "error" refuses that; give its sequence, or set '
    'embed.single_chain to "same" or to a single-chain encoder.'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsConfig:
    """Section `[pairs]`: the table of antibody-antigen pairs, and how to read it."""

    path: Path
    """The pairs table: a .csv, .tsv or .parquet file."""
    id: str = ""
    """Column that names the pair of a row; empty: rows are numbered from 1."""
    heavy: str = "heavy"
    """Column of heavy chains, or of nanobodies."""
    light: str = "light"
    """Column of light chains, whose cells may be empty; empty: no antibody has one."""
    antigen: str = "antigen"
    """Column of antigens."""
    affinity: str = ""
    """Column of measured affinities; empty: there are none."""
    unit: Unit = "pkd"
    """Unit of the affinities: Kd, its logarithm, or binding free energy (negative is strong, 298.15 K)."""
    split: str = ""
    """Column that says which part of a split a row belongs to; empty: there is none."""
    on_bad_row: Literal["error", "reject"] = "error"
    """A row that cannot be used stops the run (`error`), or is listed in rejected.csv (`reject`)."""
    censored: Censored = "error"
    """Affinities such as `>1e-6` or `n.b.`: bad rows (`error`), left out (`drop`), or bounds to train on (`use`)."""
    replicates: Literal["median", "strict"] = "median"
    """Rows of one pair give their median pKd; over 1 log unit apart: warning (`median`) or error (`strict`)."""

    def __post_init__(self) -> None:
        """Refuse a table without its two sequences.

        Raises:
            PairsError: `heavy` or `antigen` names no column.
        """
        for role in ("heavy", "antigen"):
            if not getattr(self, role):
                raise PairsError(f'pairs.{role} = "": every pair needs one; name its column.')

    def columns(self) -> dict[str, str]:
        """Name the declared column of each role."""
        roles = ("id", "heavy", "light", "antigen", "affinity", "split")
        return {role: getattr(self, role) for role in roles if getattr(self, role)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairTable:
    """One entry per distinct (antibody, antigen) pair, in the order of first appearance."""

    id: Texts
    """Id of the pair's first row."""
    pair_N2: npt.NDArray[np.int32]
    """Index into `antibodies`, index into `antigens`."""
    antibodies: Antibodies
    """Distinct (heavy, light) of accepted rows; light is None for single chains."""
    antigens: Texts
    affinity_N: npt.NDArray[np.float64] | None
    """pKd, the median of the pair's rows; None where no column is declared."""
    side_N: npt.NDArray[np.int8]
    """0 where the pKd is measured; where it is a bound, 1: at least this, -1: at most this."""
    measurements_N: npt.NDArray[np.int32]
    """Measured rows of the pair, duplicates once; 0 where there is none."""
    deviation_N: npt.NDArray[np.float64]
    """Sum of the squared deviations of these from their mean."""
    split: Texts | None
    replicates_N: npt.NDArray[np.int32]
    """Accepted rows that make up the pair, duplicates included."""
    pair_of_row: npt.NDArray[np.int64]
    """The pair of every data row of the file; -1 where rejected."""
    row_ids: Texts
    rejected: tuple[RejectedRow, ...]
    normalised: dict[str, int]
    """Harmless change -> accepted rows it was made to."""
    warnings: tuple[str, ...]
    digest: str
    """SHA-256 of the file's bytes, hex."""

    @property
    def rows(self) -> int:
        """Accepted rows."""
        return int(self.replicates_N.sum())


def read_pairs(config: PairsConfig, *, single_chain: bool = True, longest_antigen: int | None = None) -> PairTable:
    """Read a pairs table; every row ends in exactly one pair, or is rejected with a reason.

    Args:
        config: Which file, which columns, and what to do with rows that cannot be used.
        single_chain: Whether an antibody may lack its light chain.
        longest_antigen: Residues above which an antigen is a bad row; None: any length.

    Raises:
        PairsError: The table cannot be used as a whole, or rows of it cannot and `on_bad_row` is "error".
    """
    table = read_columns(config.path, config.columns(), numeric="affinity")
    if not table.rows:
        raise PairsError(f"{config.path.name} has a header and no rows; give it a row for each pair.")
    row_ids = _row_ids(table)
    rejections = Rejections(row_ids)
    sequences = _read_sequences(table, config, rejections, single_chain, longest_antigen)
    affinities_R = _read_affinities(table, config, rejections)
    _reject_unclear_rows(table, config, rejections, sequences)
    rejections.refuse(config.path.name, reject=config.on_bad_row == "reject")

    row_A = np.flatnonzero(rejections.accepted_R)
    pairs = find_pairs(sequences, row_A)
    ids = row_ids.take(row_A[pairs.first_N])
    doubts = warn_of_sequences(sequences, row_A) + (warn_of_ids(table.text["id"], row_A) if config.id else ())
    merged, warnings = _merge(affinities_R, row_A, table, pairs, ids, config)
    pair_of_row = np.full(table.rows, -1, np.int64)
    pair_of_row[row_A] = pairs.pair_A
    return PairTable(
        id=ids,
        pair_N2=pairs.pair_N2,
        antibodies=pairs.antibodies,
        antigens=pairs.antigens,
        affinity_N=None if affinities_R is None else merged.pkd_N,
        side_N=merged.side_N,
        measurements_N=merged.measurements_N,
        deviation_N=merged.deviation_N,
        split=split_of_pairs(table.text["split"], config.split, pairs, row_A, row_ids) if config.split else None,
        replicates_N=np.bincount(pairs.pair_A).astype(np.int32),
        pair_of_row=pair_of_row,
        row_ids=row_ids,
        rejected=rejections.listed(),
        normalised=count_changes(table, sequences, affinities_R, pairs, row_A) | merged.left_out,
        warnings=doubts + warnings,
        digest=table.digest,
    )


def _row_ids(table: Table) -> Texts:
    if "id" not in table.text:
        return Texts(pa.array(np.arange(1, table.rows + 1)).cast(pa.large_string()))
    column = table.text["id"]
    if (column.code_R >= 0).all():
        return column.cells.take(column.code_R)
    with_blank = pa.concat_arrays([column.cells.array, pa.array([""], pa.large_string())])
    return Texts(with_blank, column.code_R % len(with_blank))  # null, code -1, is the last


def _read_sequences(
    table: Table, config: PairsConfig, rejections: Rejections, single_chain: bool, longest_antigen: int | None
) -> dict[str, SequenceColumn]:
    """Take the columns of sequences out of the table: normalised ones beside them would be twice the memory."""
    read = partial(read_sequences, rejections=rejections)
    absent = Column(cells=Texts.of([]), code_R=np.full(table.rows, -1, np.int32))
    return {
        "heavy": read(
            table.text.pop("heavy"), config.heavy, missing="no heavy chain; give its sequence, or remove the row."
        ),
        "light": read(
            table.text.pop("light", absent),
            config.light or "light",
            missing="" if single_chain else _NO_LIGHT,
        ),
        "antigen": read(
            table.text.pop("antigen"),
            config.antigen,
            missing="no antigen; give its sequence, or remove the row.",
            longest=longest_antigen,
        ),
    }


def _read_affinities(table: Table, config: PairsConfig, rejections: Rejections) -> tuple[Floats, Sides] | None:
    column = table.numbers.get("affinity") or table.text.get("affinity")
    how = (config.affinity, config.unit, rejections)
    return None if column is None else read_affinities(column, *how, censored=config.censored)


def _reject_unclear_rows(
    table: Table, config: PairsConfig, rejections: Rejections, sequences: Mapping[str, SequenceColumn]
) -> None:
    if config.split:
        reject_blank(table.text["split"], config.split, "no value; name the row's part of the split.", rejections)
    if config.id:
        ids = table.text["id"]
        reject_blank(ids, config.id, 'no id; give one, or set pairs.id = "" to number the rows.', rejections)
        reject_shared_ids(ids, config.id, sequences.values(), rejections)


def _merge(
    affinities_R: tuple[Floats, Sides] | None,
    row_A: Codes,
    table: Table,
    pairs: DistinctPairs,
    ids: Texts,
    config: PairsConfig,
) -> tuple[Affinities, tuple[str, ...]]:
    if affinities_R is None:
        return Affinities.none(len(ids)), ()
    pkd_A, side_A = affinities_R[0][row_A], affinities_R[1][row_A]
    id_A = table.text["id"].code_R[row_A].astype(np.int64) if "id" in table.text else np.zeros_like(row_A)
    warnings = check_range(pkd_A, config.unit, config.affinity)
    merged = merge_affinities(pairs, pkd_A, side_A, id_A, ids)
    if wide := list_wide(merged.spread_N, ids):
        if config.replicates == "strict":
            raise PairsError(f'{wide}; remove wrong rows, or set pairs.replicates = "median".')
        warnings += (f"{wide}; their median is used.",)
    return merged, warnings
