"""What a layout of public tables is: its columns, and how one of its rows becomes pairs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.errors import ConfigError
from pipeline.public.readings import Reading

Row = Mapping[str, str]
"""The cells of one row by column; of columns of one name the first."""


class UnusableRow(Exception):  # noqa: N818 (the reason of a rejected row, not a failure)
    """A row gives no pair, and why."""

    def __init__(self, column: str, value: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.value, self.reason = column, value, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What one row of a public table says, sequences not normalised yet."""

    id: str
    heavy: str
    light: str | None
    antigen: str
    antigen_name: str
    reading: Reading
    once: bool = False
    """Whether other rows of the table repeat this very measurement."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the user gives beside the table."""

    sequences: Mapping[str, str] = field(default_factory=dict)
    """By name; of chains of complexes by PDB id and chain, as `1AHW_A`."""
    unit: str = ""
    """Unit of affinities in layouts that do not fix it; empty: not given."""

    def sequence(self, name: str, column: str) -> str:
        """Look a sequence up for a row.

        Raises:
            UnusableRow: It was not given.
        """
        try:
            return self.sequences[name]
        except KeyError:
            raise UnusableRow(column, name, f"no record {name} in --sequences; add it.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One kind of public table."""

    title: str
    columns: tuple[str, ...]
    """Those that make a line the header; what stands above it is skipped."""
    read: Callable[[Row, Given], Iterable[Pair]]
    """Turns one row into pairs, or raises `UnusableRow`."""
    lacks: Callable[[frozenset[str]], str] = lambda header: ""
    """Tells which records `--sequences` must hold, from the columns there are; empty: none."""
    delimiter: str = ","
    repeated: tuple[str, ...] = ()
    """Columns of which there are several, and the first is meant."""


def one_of(row: Row, *names: str) -> str:
    """Name the first of some columns that a table has.

    Raises:
        ConfigError: It has none of them.
    """
    for name in names:
        if name in row:
            return name
    raise ConfigError(f"The table has none of the columns {', '.join(names)}; it has {', '.join(row)}.")
