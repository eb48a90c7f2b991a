"""BLI results of AlphaBind (Agarwal et al. 2024): Kd of clones, with equally named columns for the second antigen."""

from collections.abc import Iterator

from pipeline.public.layout import Given, Layout, Pair, Row, UnusableRow
from pipeline.public.readings import read_cell

_CLONE, _KD = "Clone ID", "KD(M)"


def _read(row: Row, given: Given) -> Iterator[Pair]:
    clone = row[_CLONE].strip()
    try:
        reading = read_cell(row[_KD], "M")
    except ValueError as reason:
        raise UnusableRow(_KD, row[_KD], f"{reason}.") from None
    yield Pair(
        id=clone,
        heavy=given.sequence(f"{clone}_H", _CLONE),
        light=given.sequence(f"{clone}_L", _CLONE),
        antigen=given.sequence("antigen", "antigen"),
        antigen_name="",
        reading=reading,
    )


ALPHABIND = Layout(
    title="AlphaBind BLI results",
    columns=(_CLONE, _KD),
    repeated=(_KD,),
    read=_read,
    lacks=lambda header: "its clones and their antigen, as FASTA records CLONE_H, CLONE_L and antigen",
)
