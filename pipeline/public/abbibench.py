"""AbBiBench (Zhao et al. 2025) and its like: variants of one complex with a binding score."""

from collections.abc import Iterator

from pipeline.errors import ConfigError
from pipeline.public.layout import Given, Layout, Pair, Row, UnusableRow, one_of
from pipeline.public.readings import UNITS, read_cell

_HEAVY = ("mut_heavy_chain_seq", "heavy_chain_seq")
_LIGHT = ("mut_light_chain_seq", "light_chain_seq")
_ANTIGEN = ("antigen_seq", "antigen_chain_seq")
_SCORE = "binding_score"


def _read(row: Row, given: Given) -> Iterator[Pair]:
    if not given.unit:
        raise ConfigError(
            f"What a {_SCORE} is differs from table to table: say its unit, as --unit pkd ({', '.join(UNITS)})."
        )
    try:
        reading = read_cell(row[_SCORE], given.unit)
    except ValueError as reason:
        raise UnusableRow(_SCORE, row[_SCORE], f"{reason}.") from None
    yield Pair(
        id="",
        heavy=row[one_of(row, *_HEAVY)],
        light=_of(row, given, _LIGHT, "light"),
        antigen=_of(row, given, _ANTIGEN, "antigen"),
        antigen_name=row.get("antigen_id", ""),
        reading=reading,
    )


def _of(row: Row, given: Given, columns: tuple[str, ...], name: str) -> str:
    column = next((column for column in columns if column in row), "")
    return row[column] if column else given.sequence(name, name)


def _lacks(header: frozenset[str]) -> str:
    names = [name for name, columns in (("light", _LIGHT), ("antigen", _ANTIGEN)) if not header & set(columns)]
    return f"what all variants share, as FASTA records named {' and '.join(names)}" if names else ""


ABBIBENCH = Layout(title="AbBiBench", columns=(_SCORE,), read=_read, lacks=_lacks)
