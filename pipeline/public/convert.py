"""`bindcache import`: a public table becomes a pairs table; every row is used, or listed with its reason."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from embed.rejected import RejectedRow, write_rejected
from embed.sequences import BadSequence, normalise
from embed.store.durable import replace_file
from pipeline.errors import ConfigError
from pipeline.public.chains import read_sequences
from pipeline.public.layout import Given, Layout, Pair, UnusableRow
from pipeline.public.readings import UNITS

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("heavy", pa.string()),
        ("light", pa.string()),
        ("antigen", pa.string()),
        ("antigen_name", pa.string()),
        ("affinity", pa.string()),
        ("pkd", pa.float64()),
        ("sign", pa.string()),
    ]
)
"""`affinity` is what `[pairs]` reads: a pKd, or a bound such as `<5.5`; `pkd` and `sign` say it in two columns."""


@dataclass(slots=True)
class Imported:
    """What an import did."""

    rows: int = 0
    pairs: int = 0
    bounds: int = 0
    """Pairs whose affinity is a bound, or about a number."""
    out: str = ""
    rejected: int = 0
    rejected_file: str = ""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why rows were rejected -> how many."""


def import_table(layout: Layout, path: Path, out: Path, *, sequences: Path | None, unit: str) -> Imported:
    """Turn a public table into a pairs table.

    Args:
        layout: What kind of table it is.
        path: The table.
        out: Parquet file to write; rejected rows are listed beside it.
        sequences: FASTA file or folder of PDB files with what the table only names.
        unit: Unit of affinities where the layout does not fix it; empty: not given.

    Raises:
        ConfigError: The table is not of this layout, something it needs was not given, or no row can be used.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it, or name another.")
    if unit and unit not in UNITS:
        raise ConfigError(f"--unit {unit}: the units are {', '.join(UNITS)}.")
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    rejected: list[RejectedRow] = []
    result = Imported(out=str(out))
    lines = _lines(path, layout.delimiter)
    header = _find_header(lines, layout, path)
    given = _gather(layout, header, sequences, unit)
    for result.rows, pair in _pairs(lines, layout, header, given, rejected):
        if pair is not None:
            _append(columns, pair, result.rows)
    result.pairs = len(columns["id"])
    result.bounds = sum(sign != "=" for sign in columns["sign"])
    result.rejected, result.reasons = len(rejected), dict(Counter(map(_kind, rejected)).most_common())
    listing = out.with_suffix(".rejected.csv")
    if rejected:
        write_rejected(listing, rejected)
        result.rejected_file = str(listing)
    else:
        listing.unlink(missing_ok=True)
    if not result.pairs:
        raise ConfigError(f"None of the {result.rows:,} rows of {path.name} gives a pair; {listing} tells why.")
    image = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table(columns, schema=SCHEMA), image)
    replace_file(out, image.getvalue().to_pybytes())
    return result


def _lines(path: Path, delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each line that has any."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from (line for line in csv.reader(file, delimiter=delimiter) if line)
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}; name the table to import.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path.name} cannot be read as text ({error}); save it as UTF-8.") from None


def _find_header(lines: Iterator[list[str]], layout: Layout, path: Path) -> list[str]:
    """Find the line that names the columns; some tables have remarks above it."""
    first: list[str] = []
    for line in lines:
        header = [cell.strip() for cell in line]
        first = first or header
        if set(layout.columns) <= set(header):
            return _refuse_repeated(header, layout, path)
    missing = [name for name in layout.columns if name not in first]
    raise ConfigError(
        f"{path.name} is not a {layout.title} table: it has no column {', '.join(map(repr, missing))}; "
        f"its first line is {layout.delimiter.join(first)[:120]!r}. Check --from."
    )


def _refuse_repeated(header: list[str], layout: Layout, path: Path) -> list[str]:
    for name in layout.columns:
        if header.count(name) > 1 and name not in layout.repeated:
            raise ConfigError(f"{path.name} has {header.count(name)} columns {name!r}; rename all but the one meant.")
    return header


def _gather(layout: Layout, header: list[str], sequences: Path | None, unit: str) -> Given:
    lacks = layout.lacks(frozenset(header))
    if lacks and sequences is None:
        raise ConfigError(f"A {layout.title} table does not hold all sequences. Give --sequences: {lacks}.")
    return Given(read_sequences(sequences) if sequences else {}, unit)


def _pairs(
    lines: Iterator[list[str]], layout: Layout, header: list[str], given: Given, rejected: list[RejectedRow]
) -> Iterator[tuple[int, Pair | None]]:
    """Yield the number of each row with its pairs, normalised; rows that give none are listed."""
    known: dict[str, str] = {}
    once: set[tuple[str, str]] = set()
    for number, cells in enumerate(lines, 1):
        yield number, None
        row = dict(zip(reversed(header), reversed(cells), strict=False))  # of equal names the first stays
        try:
            if len(cells) != len(header):
                raise UnusableRow("", "", f"{len(cells)} cells, and the header has {len(header)}.")
            for pair in layout.read(row, given):
                mark = (pair.id, pair.reading.cell)
                if not (pair.once and mark in once):
                    yield number, _normalised(pair, known)
                    once |= {mark} if pair.once else set()
        except UnusableRow as error:
            rejected.append(
                RejectedRow(
                    row=number,
                    id=row.get(layout.columns[0], ""),
                    column=error.column,
                    value=error.value,
                    reason=error.reason,
                )
            )


def _normalised(pair: Pair, known: dict[str, str]) -> Pair:
    """Normalise the sequences of a pair, each distinct one once."""
    found: dict[str, str] = {}
    for role in ("heavy", "light", "antigen"):
        text = getattr(pair, role)
        if text is None or (role == "light" and not text.strip()):
            continue
        if text not in known:
            try:
                known[text] = normalise(text).sequence
            except BadSequence as error:
                raise UnusableRow(role, text, str(error)) from None
        found[role] = known[text]
    return replace(pair, heavy=found["heavy"], light=found.get("light"), antigen=found["antigen"])


def _append(columns: Mapping[str, list[object]], pair: Pair, row: int) -> None:
    reading = pair.reading
    cells = (
        pair.id or str(row),
        pair.heavy,
        pair.light,
        pair.antigen,
        pair.antigen_name or None,
        reading.cell,
        reading.pkd,
        reading.sign,
    )
    for column, cell in zip(columns.values(), cells, strict=True):
        column.append(cell)


def _kind(rejected: RejectedRow) -> str:
    """Put rejected rows of one kind together: without the value, which is the row's own."""
    value = rejected.value.strip()
    return f"{rejected.column}: {rejected.reason.replace(value, '...') if value else rejected.reason}"
