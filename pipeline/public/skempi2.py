"""SKEMPI 2.0 (Jankauskaite et al. 2019): Kd of mutants and wild types; sequences and mutations by PDB chain."""

import re
from collections.abc import Iterator
from contextlib import suppress

from pipeline.public.complexes import find_antibody, join_antigen
from pipeline.public.layout import Given, Layout, Pair, Row, UnusableRow
from pipeline.public.readings import Reading, read_cell

_PDB, _MUTATIONS, _KIND = "#Pdb", "Mutation(s)_cleaned", "Hold_out_type"
_MUTANT, _WILD = "Affinity_mut (M)", "Affinity_wt (M)"
_MUTATION = re.compile(r"(?P<old>[A-Z])(?P<chain>\w)(?P<place>\d+)(?P<new>[A-Z])")


def _read(row: Row, given: Given) -> Iterator[Pair]:
    if "AB/AG" not in row[_KIND]:
        raise UnusableRow(_KIND, row[_KIND], "not an antibody-antigen complex (AB/AG).")
    name = row[_PDB]
    pdb, *groups = name.split("_")
    chains = {chain: given.sequence(f"{pdb.upper()}_{chain}", _PDB) for group in groups for chain in group}
    mutations = [each.strip() for each in row[_MUTATIONS].split(",")]
    mutant = _mutate(chains, mutations)
    wild = row[_WILD].strip()
    if wild:  # and where it is no number, the row of the mutant still is one
        with suppress(ValueError):
            yield _pair(row, groups, chains, "WT", read_cell(wild, "M"), once=True)
    mutant = _mutate(chains, mutations)
    try:
        reading = read_cell(row[_MUTANT], "M")
    except ValueError as reason:
        raise UnusableRow(_MUTANT, row[_MUTANT], f"{reason}.") from None
    yield _pair(row, groups, mutant, "+".join(mutations), reading)


def _pair(
    row: Row, groups: list[str], chains: dict[str, str], label: str, reading: Reading, *, once: bool = False
) -> Pair:
    partners = [[chains[chain] for chain in group] for group in groups]
    heavy, light, antigen = find_antibody(partners, _PDB, row[_PDB])
    return Pair(
        id=f"{row[_PDB]}:{label}",
        heavy=heavy,
        light=light,
        antigen=join_antigen(antigen),
        antigen_name=row["Protein 2" if antigen == partners[1] else "Protein 1"],
        reading=reading,
        once=once,
    )


def _mutate(chains: dict[str, str], mutations: list[str]) -> dict[str, str]:
    """Put the mutated residues in, after checking that the wild type is there."""
    residues = {chain: list(sequence) for chain, sequence in chains.items()}
    for text in mutations:
        match = _MUTATION.fullmatch(text)
        if match is None or match["chain"] not in residues:
            raise UnusableRow(_MUTATIONS, text, "not a mutation of a chain of the complex, such as LI38G.")
        place, sequence = int(match["place"]) - 1, residues[match["chain"]]
        found = chains[match["chain"]][place : place + 1]
        if found != match["old"]:
            raise UnusableRow(
                _MUTATIONS,
                text,
                f"residue {place + 1} of chain {match['chain']} is {found or 'not there'}, not {match['old']}; "
                "give the chains of SKEMPI's own PDB files, which these numbers count.",
            )
        sequence[place] = match["new"]
    return {chain: "".join(sequence) for chain, sequence in residues.items()}


SKEMPI2 = Layout(
    title="SKEMPI 2.0",
    delimiter=";",
    columns=(_PDB, _MUTATIONS, _KIND, _MUTANT, _WILD, "Protein 1", "Protein 2"),
    read=_read,
    lacks=lambda header: "the chains of its complexes, as the folder of SKEMPI's own PDB files or FASTA records 1AHW_A",
)
