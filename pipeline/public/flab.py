"""FLAb (Chungyoun et al. 2024), folder `binding`: heavy, light and Kd of variants that bind one antigen."""

import re
from collections.abc import Iterator

from pipeline.errors import ConfigError
from pipeline.public.layout import Given, Layout, Pair, Row, UnusableRow
from pipeline.public.readings import read_cell

_MOLAR = re.compile(r"k_?d\s*[(\[]\s*([munpµμ]?)M\s*[)\]]", re.IGNORECASE)
_ANTIGEN = "antigen"


def _read(row: Row, given: Given) -> Iterator[Pair]:
    column, unit = _affinity_column(tuple(row), given.unit)
    try:
        reading = read_cell(row[column], unit)
    except ValueError as reason:
        raise UnusableRow(column, row[column], f"{reason}.") from None
    yield Pair(
        id="",
        heavy=row["heavy"],
        light=row["light"],
        antigen=given.sequence(_ANTIGEN, _ANTIGEN),
        antigen_name="",
        reading=reading,
    )


def _affinity_column(header: tuple[str, ...], unit: str) -> tuple[str, str]:
    """Find the column of Kd and its unit: a molar one by its name, else `fitness` in the unit that is given."""
    for name in header:
        match = _MOLAR.fullmatch(name.strip())
        if match:
            return name, f"{match[1].lower().replace('µ', 'u').replace('μ', 'u')}M"
    if "fitness" in header and unit:
        return "fitness", unit
    raise ConfigError(
        f"The table has no column of Kd such as 'KD (nM)'; it has {', '.join(header)}. "
        "If its fitness is an affinity, say in which unit, as --unit pkd."
    )


FLAB = Layout(
    title="FLAb, folder binding",
    columns=("heavy", "light"),
    read=_read,
    lacks=lambda header: "the antigen that all variants bind, as a FASTA record named antigen",
)
