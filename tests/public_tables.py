"""Small tables in the layouts in which public ones are published, made up, with the sequences that they only name."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq

from pipeline.demo_pairs import RESIDUES, demo_rows

_CODES = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL"
_NAMES = dict(zip("ARNDCQEGHILKMFPSTWYV", _CODES.split(), strict=True))
_SKEMPI2 = (
    "#Pdb", "Mutation(s)_PDB", "Mutation(s)_cleaned", "Hold_out_type", "Affinity_mut (M)", "Affinity_wt (M)",
    "Protein 1", "Protein 2", "Temperature",
)  # fmt: skip
_COMPLEXES, _MUTANTS = 9, 30
_MUTATION = re.compile(r"([A-Z])(\w)(\d+)[A-Z]")


def write_skempi2(folder: Path) -> None:
    """Write `skempi_v2.csv` and a folder `PDBs` of nine complexes, with bounds, replicates and gaps as in real ones."""
    rng = np.random.default_rng(0)
    rows = [["1CSE_E_I", "LI45G", "LI38G", "Pr/PI", "5.26E-11", "1.12E-12", "Subtilisin", "Eglin c", "294"]] * 20
    chains: dict[str, str] = {}
    for number, (heavy, light) in enumerate(itertools.islice(_antibodies(), _COMPLEXES)):
        pdb, antigen = f"{number + 1}ABC", "".join(rng.choice(list(RESIDUES), 80 + 9 * number))
        if number < _COMPLEXES - 1:  # the last one's file is missing
            chains |= {f"{pdb}_H": heavy, f"{pdb}_L": light, f"{pdb}_A": antigen}
        kds = [f"{10 ** -rng.uniform(6, 11):.2E}" for _ in range(_MUTANTS)]
        kds = [*kds[:-1], "n.b." if number % 2 else ">3E-06"]
        first = len(rows)
        for turn, (kd, place) in enumerate(zip(kds, 20 + rng.permutation(50), strict=False)):
            chain, sequence = ("H", heavy) if turn % 2 else ("A", antigen)
            mutation = f"{sequence[place]}{chain}{place + 1}{'A' if sequence[place] != 'A' else 'G'}"
            rows.append(
                [f"{pdb}_HL_A", mutation, mutation, "AB/AG", kd, "2E-09", "Fab", f"antigen {number + 1}", "298"]
            )
        again = [*rows[first]]
        again[4] = f"{float(again[4]) * 2:.2E}"
        rows += [again, rows[first]]  # a replicate, and a row that is there twice
    write_rows(folder / "skempi_v2.csv", [_SKEMPI2, *rows], ";")
    write_pdbs(folder / "PDBs", chains)


def real_chains(table: Path, pairs: Path) -> dict[str, str]:
    """Put the chains of SKEMPI's complexes together again from the wild types in a pairs table of it.

    Which chain is which is told by the residues that mutations replace; complexes that leave doubt are left out.
    """
    wild = {row["pair_id"][:-3]: row for row in pq.read_table(pairs).to_pylist() if row["pair_id"].endswith(":WT")}
    replaced: dict[str, set[tuple[str, str, int]]] = {}
    with table.open() as file:
        for row in csv.DictReader(file, delimiter=";"):
            if "AB/AG" in row["Hold_out_type"]:
                found = _MUTATION.findall(row["Mutation(s)_cleaned"])
                replaced.setdefault(row["#Pdb"], set()).update((old, chain, int(at)) for old, chain, at in found)
    chains: dict[str, str] = {}
    for name, residues in replaced.items():
        for named in _ways(name, wild[name]) if name in wild else ():
            if all(named.get(chain, "")[at - 1 : at] == old for old, chain, at in residues):
                chains |= {f"{name[:4]}_{chain}": sequence for chain, sequence in named.items()}
                break
    return chains


def write_pdbs(folder: Path, chains: Mapping[str, str]) -> None:
    """Write chains such as `1ABC_H` as PDB files of their alpha carbons."""
    folder.mkdir()
    for name, sequence in chains.items():
        pdb, _, chain = name.partition("_")
        with (folder / f"{pdb}.pdb").open("a") as file:
            for number, residue in enumerate(sequence, 1):
                file.write(f"ATOM  {number:5}  CA  {_NAMES[residue]} {chain}{number:4}       0.000   0.000   0.000\n")


def write_layouts(folder: Path) -> None:
    """Write a table of every other layout that `bindcache import` knows, named as in docs/formats.md."""
    (heavy, light), (other, _) = itertools.islice(_antibodies(), 2)
    antigen = demo_rows(0)[0][3]
    sabdab = [
        ("pdb", "Hchain", "Lchain", "antigen_chain", "antigen_type", "antigen_name", "affinity"),
        ("1abc", "H", "L", "A", "protein", "lysozyme", "2E-09"),
        ("1abc", "H", "L", "A", "protein", "lysozyme", "None"),
    ]
    write_rows(folder / "summary.tsv", sabdab, "\t")
    write_rows(folder / "g6.csv", [("heavy", "light", "KD (nM)"), (heavy, light, "2.5"), (other, light, "n.b.")])
    write_rows(folder / "3gbn.csv", [("mut_heavy_chain_seq", "binding_score"), (heavy, "8.1"), (other, "7.3")])
    alphaseq = [("POI", "Target", "Pred_affinity", "HC", "LC"), ("a1", "peptide", "2.1", heavy, light)]
    write_rows(folder / "binding.csv", alphaseq)
    write_rows(folder / "bli.csv", [("Clone ID", "KD(M)", "KD(M)"), ("c1", "9.9E-10", "N.B."), ("IgG", "N.B.", "N.B.")])
    write_fasta(folder / "pdb_seqres.fasta", {"1abc_H": heavy, "1abc_L": light, "1abc_A": antigen})
    write_fasta(folder / "vegf.fasta", {"antigen": antigen})
    write_fasta(folder / "shared.fasta", {"light": light, "antigen": antigen})
    write_fasta(folder / "targets.fasta", {"peptide": antigen})
    write_fasta(folder / "clones.fasta", {"c1_H": heavy, "c1_L": light, "antigen": antigen})


def write_vectors(folder: Path, antigens: Sequence[str]) -> None:
    """Write `per-protein.h5` as UniProt does, with vectors of some antigens, and their `antigens.fasta`."""
    rng = np.random.default_rng(0)
    names = [f"P{number:05}" for number in range(len(antigens))]
    with h5py.File(folder / "per-protein.h5", "w") as root:
        for name in names:
            root.create_dataset(name, data=rng.normal(size=32).astype(np.float32))
    write_fasta(folder / "antigens.fasta", dict(zip(names, antigens, strict=True)))


def write_rows(path: Path, rows: Iterable[Sequence[str]], delimiter: str = ",") -> None:
    """Write rows of cells."""
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def write_fasta(path: Path, sequences: Mapping[str, str]) -> None:
    """Write named sequences."""
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()))


def _antibodies() -> Iterator[tuple[str, str]]:
    """Yield heavy and light chains of the demo's paired antibodies."""
    return ((heavy, light) for _, heavy, light, _, _ in demo_rows(0) if light)


def _ways(name: str, wild: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the ways to give a complex's chains their letters, as `1AHW_AB_C` allows them."""
    _, *groups = name.split("_")
    antibody = [wild["heavy"], *([wild["light"]] if wild["light"] else [])]
    for ours, theirs in (groups, groups[::-1]):
        for order in itertools.permutations(antibody) if len(ours) == len(antibody) else ():
            yield dict(zip(ours, order, strict=True)) | dict.fromkeys(theirs, wild["antigen"])
