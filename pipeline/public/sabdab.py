"""The summary file of SAbDab (Dunbar et al. 2014): Kd of complexes, named by PDB id and chains."""

from collections.abc import Iterator

from embed.sequences import is_missing
from pipeline.public.complexes import join_antigen
from pipeline.public.layout import Given, Layout, Pair, Row, UnusableRow
from pipeline.public.readings import read_cell

_PROTEIN = ("protein", "peptide")


def _read(row: Row, given: Given) -> Iterator[Pair]:
    try:
        reading = read_cell(row["affinity"], "M")
    except ValueError as reason:
        raise UnusableRow("affinity", row["affinity"], f"{reason}.") from None
    heavy, light = row["Hchain"].strip(), "" if is_missing(row["Lchain"]) else row["Lchain"].strip()
    if is_missing(heavy):
        raise UnusableRow("Hchain", heavy, "no heavy chain.")
    if heavy.upper() == light.upper():
        raise UnusableRow("Lchain", light, "heavy and light domain in one chain (scFv); such chains are not split.")
    kinds = _listed(row["antigen_type"])
    if not kinds or any(kind.lower() not in _PROTEIN for kind in kinds):
        raise UnusableRow("antigen_type", row["antigen_type"], "the antigen is not a protein.")
    pdb, antigen = row["pdb"].strip(), _listed(row["antigen_chain"])
    yield Pair(
        id=f"{pdb}_{heavy}{light}_{''.join(antigen)}",
        heavy=given.sequence(f"{pdb.upper()}_{heavy}", "Hchain"),
        light=given.sequence(f"{pdb.upper()}_{light}", "Lchain") if light else None,
        antigen=join_antigen([given.sequence(f"{pdb.upper()}_{chain}", "antigen_chain") for chain in antigen]),
        antigen_name=row["antigen_name"].strip(),
        reading=reading,
    )


def _listed(cell: str) -> list[str]:
    return [part.strip() for part in cell.split("|") if not is_missing(part)]


SABDAB = Layout(
    title="SAbDab summary",
    delimiter="\t",
    columns=("pdb", "Hchain", "Lchain", "antigen_chain", "antigen_type", "antigen_name", "affinity"),
    read=_read,
    lacks=lambda header: "the chains of its complexes, as the PDB's FASTA (records 1AHW_A) or a folder of PDB files",
)
