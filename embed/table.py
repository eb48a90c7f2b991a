"""Reads the columns of a pairs table file (CSV, TSV, Parquet), each distinct cell once.

Array suffixes: R data rows of the file, the header not counted.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from embed.bombs import refuse_bomb
from embed.delimited import read_cells, read_header
from embed.errors import PairsError
from embed.texts import Texts

Floats = npt.NDArray[np.float64]
Cells_co = TypeVar("Cells_co", bound=Texts | Floats, covariant=True)

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column(Generic[Cells_co]):
    """One column: its distinct cells, and which of them each row holds."""

    cells: Cells_co
    code_R: npt.NDArray[np.int32]
    """Index into `cells`; -1 where a Parquet file holds null."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The columns that were asked for, by role."""

    rows: int
    text: dict[str, Column[Texts]]
    numbers: dict[str, Column[Floats]]
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
    text: dict[str, Column[Texts]] = {}
    numbers: dict[str, Column[Floats]] = {}
    try:
        with path.open("rb") as file:
            stamp, digest = _stamp(path), hashlib.file_digest(file, "sha256").hexdigest()
        read = _open_parquet(path, names) if suffix == ".parquet" else _open_text(path, names, _DELIMITERS[suffix])
        for role, name in names.items():
            array = read(role)
            if role == numeric and _holds_numbers(array.type):
                numbers[role] = _numbers(array)
            else:
                text[role] = _text(array, role, name)
            del array  # or two columns are in memory while the next one is read
        if _stamp(path) != stamp:
            raise PairsError(f"{path.name} changed while it was read; run the same command again.")
    except FileNotFoundError:
        raise PairsError(f"pairs.path = {str(path)!r} does not exist; set it to the pairs table.") from None
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise PairsError(f"pairs.path = {str(path)!r} cannot be read ({error}); save it anew.") from error
    rows = {*(len(column.code_R) for column in text.values()), *(len(column.code_R) for column in numbers.values())}
    return Table(rows=rows.pop(), text=text, numbers=numbers, digest=digest)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _open_text(path: Path, names: Mapping[str, str], delimiter: str) -> Callable[[str], pa.ChunkedArray]:
    wanted = list(dict.fromkeys(names.values()))
    header = read_header(path, delimiter, wanted)
    _refuse_unclear_names(path, names, header)
    cells = read_cells(path, delimiter, header, wanted)
    return {role: cells[name] for role, name in names.items()}.pop


def _open_parquet(path: Path, names: Mapping[str, str]) -> Callable[[str], pa.ChunkedArray]:
    metadata = pyarrow.parquet.read_metadata(path)
    schema = metadata.schema.to_arrow_schema()
    _refuse_unclear_names(path, names, schema.names)
    refuse_bomb(path, metadata, set(names.values()))
    return lambda role: _read_parquet(path, schema.field(names[role]))


def _read_parquet(path: Path, field: pa.Field) -> pa.ChunkedArray:
    with pyarrow.parquet.ParquetFile(path, read_dictionary=[field.name] if _is_text(field.type) else []) as file:
        # One group after the other: all at once would hold a column's repeated cells as often as they occur.
        groups = [_read_group(file, group, field.name, path) for group in range(file.num_row_groups)]
        table = pa.concat_tables([file.schema_arrow.empty_table().select([field.name]), *groups])
    table.validate(full=True)
    return table.column(0)


def _read_group(file: pyarrow.parquet.ParquetFile, group: int, name: str, path: Path) -> pa.Table:
    table, rows = file.read_row_group(group, columns=[name]), file.metadata.row_group(group).num_rows
    if len(table) != rows:  # or all below would move to other rows
        raise PairsError(
            f"{path.name} is damaged: column {name!r} has {len(table):,} of {rows:,} rows in row group {group + 1}; "
            "save it anew."
        )
    return table


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


def _text(array: pa.ChunkedArray, role: str, name: str) -> Column[Texts]:
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        array = array.cast(kind).cast(pa.string())
    elif not _is_text(kind):
        raise PairsError(f"column {name!r} (pairs.{role}) is of type {kind}; save it as a column of strings.")
    cells, code_R = _join(array, pa.large_string())
    return Column(cells=Texts(cells), code_R=code_R)


def _numbers(array: pa.ChunkedArray) -> Column[Floats]:
    cells, code_R = _join(array, pa.float64())
    return Column(cells=cells.to_numpy(), code_R=code_R)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _holds_numbers(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _join(array: pa.ChunkedArray, kind: pa.DataType) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """Find the distinct cells of a column, as `kind`, and the number of each row's cell among them; -1 for null."""
    pa.default_memory_pool().release_unused()  # what the column before left behind is as large as this one
    encoded = pa.chunked_array([_encode(chunk, kind) for chunk in array.chunks], pa.dictionary(pa.int32(), kind))
    chunks = encoded.unify_dictionaries().chunks
    codes = [chunk.indices.fill_null(-1).to_numpy() for chunk in chunks]
    return (
        chunks[0].dictionary if chunks else pa.array([], kind),
        np.concatenate(codes) if codes else np.empty(0, np.int32),
    )


def _encode(chunk: pa.Array, kind: pa.DataType) -> pa.DictionaryArray:
    if pa.types.is_dictionary(chunk.type):
        return pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary.cast(kind))
    return chunk.cast(kind).dictionary_encode()
