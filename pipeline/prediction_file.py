"""Predictions as a file: Parquet, or text that a spreadsheet opens safely."""

import csv
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embed.harmless import harmless
from pipeline.errors import ConfigError
from pipeline.whole import write_whole

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ROWS_AT_ONCE = 1 << 16


def check_out(out: Path) -> None:
    """Refuse a file that could not be written in the end.

    Raises:
        ConfigError: Its ending names no format, or its folder is not there.
    """
    if out.suffix.lower() not in (".parquet", *_DELIMITERS):
        raise ConfigError(f"--out {out}: the ending says what to write; end it in .parquet, .csv or .tsv.")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it, or name another.")


def write_predictions(out: Path, table: pa.Table) -> None:
    """Write a table as its file's ending says; null is an empty cell in text."""
    delimiter = _DELIMITERS.get(out.suffix.lower())
    write_whole(out, partial(pq.write_table, table) if delimiter is None else partial(_write_text, table, delimiter))


def _write_text(table: pa.Table, delimiter: str, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(table.column_names)
        for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            writer.writerows(zip(*map(_cells, batch.columns), strict=True))


def _cells(column: pa.Array) -> list[str | None]:
    if pa.types.is_string(column.type):
        return [None if cell is None else harmless(cell) for cell in column.to_pylist()]
    cells: list[str | None] = column.cast(pa.string()).to_pylist()
    return cells
