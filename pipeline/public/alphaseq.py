"""AlphaSeq of A-Alpha Bio (Engelhart et al. 2022): log10 Kd in nM of heavy and light chains against named targets."""

from collections.abc import Iterator

from pipeline.public.layout import Given, Layout, Pair, Row, UnusableRow
from pipeline.public.readings import Reading, read_cell

_AFFINITY = "Pred_affinity"
_NANO = 9.0


def _read(row: Row, given: Given) -> Iterator[Pair]:
    try:
        logged = read_cell(row[_AFFINITY], "log10_M")
    except ValueError as reason:
        raise UnusableRow(_AFFINITY, row[_AFFINITY], f"{reason}.") from None
    target = row["Target"].strip()
    yield Pair(
        id=f"{row['POI'].strip()}:{target}",
        heavy=row["HC"],
        light=row["LC"],
        antigen=given.sequence(target, "Target"),
        antigen_name=target,
        reading=Reading(logged.pkd + _NANO, logged.sign),
    )


ALPHASEQ = Layout(
    title="AlphaSeq",
    columns=("POI", "Target", _AFFINITY, "HC", "LC"),
    read=_read,
    lacks=lambda header: "its targets, as FASTA records by their names in column Target",
)
