"""Reads the columns of a pairs table file (CSV, TSV, Parquet), each distinct cell once.

Array suffixes: R data rows of the file, the header not counted.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from embed.delimited import read_cells, read_header
from embed.errors import PairsError

Cell_co = TypeVar("Cell_co", bound=str | float, covariant=True)

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column(Generic[Cell_co]):
    """One column: its distinct cells, and which of them each row holds."""

    cells: Sequence[Cell_co]
    code_R: npt.NDArray[np.int32]
    """Index into `cells`; -1 where a Parquet file holds null."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The columns that were asked for, by role."""

    rows: int
    text: dict[str, Column[str]]
    numbers: dict[str, Column[float]]
    """Numeric roles whose Parquet column holds numbers; every other role is in `text`."""
    digest: str
    """SHA-256 of the file's bytes, hex."""


def read_columns(path: Path, names: Mapping[str, str], *, numeric: str = "") -> Table:
    """Read columns of a .csv, .tsv or .parquet file as text: `4E10` stays `4E10`.

    Args:
        path: The file; its suffix tells the format.
        names: The column of each role (`heavy`, `antigen`, ...); messages call it `pairs.<role>`.
        numeric: The role that keeps its numbers where a Parquet column holds numbers.

    Raises:
        PairsError: The file cannot be read as a table, or a column is missing, ambiguous or of an unfit type.
    """
    suffix = path.suffix.lower()
    if suffix not in {*_DELIMITERS, ".parquet"}:
        raise PairsError(f"pairs.path = {str(path)!r} is none of .csv, .tsv and .parquet; save it as one of them.")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        arrays = _read_parquet(path, names) if suffix == ".parquet" else _read_text(path, names, _DELIMITERS[suffix])
    except FileNotFoundError:
        raise PairsError(f"pairs.path = {str(path)!r} does not exist; set it to the pairs table.") from None
    except (OSError, pa.ArrowException) as error:
        raise PairsError(f"pairs.path = {str(path)!r} cannot be read ({error}); save it anew.") from error
    numbers = {role for role, array in arrays.items() if role == numeric and _holds_numbers(array.type)}
    return Table(
        rows=len(next(iter(arrays.values()))),
        text={role: _column(_as_text(arrays[role], role, names[role])) for role in arrays.keys() - numbers},
        numbers={role: _column(arrays[role].cast(pa.float64()).dictionary_encode()) for role in numbers},
        digest=digest,
    )


def _read_text(path: Path, names: Mapping[str, str], delimiter: str) -> dict[str, pa.ChunkedArray]:
    wanted = list(dict.fromkeys(names.values()))
    header = read_header(path, delimiter, wanted)
    _refuse_unclear_names(path, names, header)
    cells = read_cells(path, delimiter, header, wanted)
    return {role: cells[name] for role, name in names.items()}


def _read_parquet(path: Path, names: Mapping[str, str]) -> dict[str, pa.ChunkedArray]:
    wanted = list(dict.fromkeys(names.values()))
    schema = pyarrow.parquet.read_schema(path)
    _refuse_unclear_names(path, names, schema.names)
    text = [name for name in wanted if _is_text(schema.field(name).type)]
    with pyarrow.parquet.ParquetFile(path, read_dictionary=text) as file:
        table = file.read(columns=wanted)
    table.validate(full=True)
    return {role: _plain_numbers(table.column(name)) for role, name in names.items()}


def _refuse_unclear_names(path: Path, names: Mapping[str, str], header: list[str]) -> None:
    missing = {role: name for role, name in names.items() if name not in header}
    if missing:
        listed = ", ".join([*map(repr, header[:_SHOWN]), *["..."][: len(header) > _SHOWN]])
        wanted = ", ".join(_with_nearest(role, name, header) for role, name in missing.items())
        absent = ' (pairs.light = "" where no antibody has a light chain)' if "light" in missing else ""
        raise PairsError(
            f"{path.name} has no column {wanted}. Name the right ones in [pairs]{absent}; it has {listed}."
        )
    for role, name in names.items():
        if header.count(name) > 1:
            raise PairsError(
                f"{path.name} has {header.count(name)} columns {name!r}, and pairs.{role} needs one; rename the others."
            )


def _with_nearest(role: str, name: str, header: list[str]) -> str:
    lowered = {column.strip().lower(): column for column in header}
    nearest = get_close_matches(name.strip().lower(), lowered, n=1)
    return f"{name!r} (pairs.{role}{f', nearest {lowered[nearest[0]]!r}' if nearest else ''})"


def _plain_numbers(array: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn a categorical of numbers into the numbers."""
    kind = array.type
    if pa.types.is_dictionary(kind) and not _is_text(kind.value_type):
        return array.cast(kind.value_type)
    return array


def _as_text(array: pa.ChunkedArray, role: str, name: str) -> pa.ChunkedArray:
    kind = array.type
    if pa.types.is_dictionary(kind) and _is_text(kind.value_type):
        return array
    if _is_text(kind):
        return array.dictionary_encode()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return array.cast(pa.string()).dictionary_encode()
    raise PairsError(f"column {name!r} (pairs.{role}) is of type {kind}; save it as a column of strings.")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _holds_numbers(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _column(array: pa.ChunkedArray) -> Column[Any]:
    chunks = array.unify_dictionaries().chunks
    codes = [chunk.indices.fill_null(-1).to_numpy().astype(np.int32, copy=False) for chunk in chunks]
    return Column(
        cells=chunks[0].dictionary.to_pylist() if chunks else [],
        code_R=np.concatenate(codes) if codes else np.empty(0, np.int32),
    )
