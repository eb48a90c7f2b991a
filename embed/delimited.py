"""Reads CSV and TSV columns as text, cell for cell, and refuses files that would be misread."""

import codecs
import csv
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from embed.errors import PairsError

_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_SEQUENCE = re.compile("[ACDEFGHIKLMNPQRSTVWXY]{20,}", re.IGNORECASE)
_TEXT = pa.dictionary(pa.int32(), pa.string())
_BLOCK = 1 << 25


def read_header(path: Path, delimiter: str, wanted: list[str]) -> list[str]:
    """Read the names of the columns, after checking that the whole file is UTF-8 (a byte order mark is fine).

    Raises:
        PairsError: Other encoding, other delimiter, no header, or nothing at all.
    """
    _refuse_other_encodings(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            header = next((cells for cells in csv.reader(file, delimiter=delimiter) if cells), None)
        except csv.Error as error:
            raise PairsError(f"{path.name}: the header cannot be read ({error}); give it one line of names.") from None
    if header is None:
        raise PairsError(f"{path.name} is empty; give it a header line and a row for each pair.")
    if not set(wanted) <= set(header):
        _refuse_other_delimiters(path, delimiter.join(header), delimiter)
        if any(_SEQUENCE.fullmatch(cell.strip()) for cell in header):
            raise PairsError(f"{path.name} has no header: its first line holds sequences; put column names above it.")
    return header


def read_cells(path: Path, delimiter: str, header: list[str], wanted: list[str]) -> dict[str, pa.ChunkedArray]:
    """Read the wanted columns as dictionary-encoded text; empty lines do not count as rows.

    Raises:
        PairsError: A row has more or fewer cells than the header, or is huge, or an unclosed quote swallowed rows.
    """
    ragged: list[Any] = []

    def note(row: Any) -> str:  # noqa: ANN401 (pyarrow gives its row no public type)
        ragged.append(row)
        return "skip"

    quoted = _holds_quotes(path)
    try:
        table = pyarrow.csv.read_csv(
            path,
            # On more threads pyarrow does not know the number of a ragged row.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=quoted, invalid_row_handler=note
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()) | dict.fromkeys(wanted, _TEXT),
                strings_can_be_null=False,
                include_columns=None if quoted else wanted,
            ),
        )
    except pa.ArrowInvalid as error:
        if "block boundaries" not in str(error):
            raise
        raise PairsError(
            f"{path.name} has a row of over {_BLOCK:,} bytes; close the quote that opens it, or shorten its cells."
        ) from None
    if ragged:
        first = ragged[0]
        raise PairsError(
            f"{path.name}: data row {first.number - 1} has {first.actual_columns} cells and the header "
            f"{first.expected_columns} (rows that differ: {len(ragged):,}). Give every row all cells, "
            f"and quote those that hold {delimiter!r}."
        )
    if quoted:
        _refuse_swallowed_rows(path, table, delimiter)
    return {name: table.column(name) for name in wanted}


def _refuse_other_encodings(path: Path) -> None:
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            if line == 1 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise PairsError(f"{path.name} is UTF-16 (Excel's Unicode Text); save it as CSV UTF-8.")
            if b"\0" in block:
                raise PairsError(f"{path.name} holds NUL bytes: it is UTF-16 or no text; save it as CSV UTF-8.")
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                byte, line = error.object[error.start], line + error.object.count(b"\n", 0, error.start)
                raise PairsError(
                    f"{path.name} is not UTF-8: byte {byte:#x} in line {line} is {chr(byte)!r} in Latin-1 or "
                    "Windows-1252; save it as CSV UTF-8."
                ) from None
            line += block.count(b"\n")


def _refuse_other_delimiters(path: Path, line: str, delimiter: str) -> None:
    guess = max(_NAMES, key=line.count)
    if line.count(guess) > line.count(delimiter):
        raise PairsError(
            f"{path.name} is separated by {_NAMES[guess]}; save it with commas as .csv or with tabs as .tsv."
        )


def _holds_quotes(path: Path) -> bool:
    with path.open("rb") as file:
        return any(b'"' in block for block in iter(lambda: file.read(_BLOCK), b""))


def _refuse_swallowed_rows(path: Path, table: pa.Table, delimiter: str) -> None:
    """Refuse cells that look like rows: an unclosed quote takes all up to the next one into one cell."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks:
            cells = chunk.dictionary if isinstance(chunk, pa.DictionaryArray) else chunk
            lines, delimiters = pc.count_substring(cells, "\n"), pc.count_substring(cells, delimiter)
            row_like = pc.and_(pc.greater(lines, 0), pc.greater_equal(delimiters, table.num_columns - 1))
            if pc.any(row_like).as_py():
                start = cells.filter(row_like)[0].as_py()[:40]
                raise PairsError(
                    f"{path.name}: a cell of column {name!r} that starts {start!r} holds whole lines; "
                    "close the quote before it, or take the line breaks out of the cell."
                )
