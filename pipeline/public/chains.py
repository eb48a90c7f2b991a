"""Sequences that public tables only name: from a FASTA file, or from a folder of PDB files."""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ConfigError

_RCSB = re.compile(r"(?P<pdb>\w{4})_\d+\|Chains? (?P<chains>[^|]+)\|")
_CHAIN = re.compile(r"\s*(\w+)(?:\[auth (\w+)\])?\s*")
_COMPLEX = re.compile(r"([0-9]\w{3})[_:](\w+)")
_NAMES = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL MSE"
_LETTERS = dict(zip(_NAMES.split(), "ARNDCQEGHILKMFPSTWYVM", strict=True))


def read_sequences(path: Path) -> dict[str, str]:
    """Read named sequences.

    Args:
        path: A FASTA file, whose records are named by their first word, chains of complexes as the PDB names them
            (`>1AHW_1|Chains A, B[auth H]|...`, `>1ahw_A mol:protein`, `>1AHW:A`); or a folder of `.pdb` files.

    Returns:
        Sequences by name; chains as `1AHW_A`.

    Raises:
        ConfigError: There is no such file, it is no FASTA, or a name has two sequences.
    """
    if path.is_dir():
        found = [named for file in sorted(path.glob("*.pdb")) for named in _chains_of(file)]
        if not found:
            raise ConfigError(
                f"--sequences {path}: there are no chains in .pdb files; name the folder that holds them."
            )
    else:
        found = list(_records(path))
    sequences: dict[str, str] = {}
    for name, sequence in found:
        if sequences.setdefault(name, sequence) != sequence:
            raise ConfigError(f"--sequences {path}: there are two sequences named {name}; keep one.")
    return sequences


def _records(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"--sequences {path}: there is no such file; name a FASTA file.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--sequences {path} is not text; name a FASTA file.") from None
    before, *records = re.split(r"^>", text, flags=re.MULTILINE)
    if before.strip() or not records:
        raise ConfigError(f"--sequences {path} is not FASTA: its first line does not start with '>'.")
    for record in records:
        header, _, lines = record.partition("\n")
        sequence = "".join(lines.split())
        for name in _names(header.strip()):
            yield name, sequence


def _names(header: str) -> list[str]:
    rcsb = _RCSB.match(header)
    if rcsb:
        parts = [_CHAIN.fullmatch(part) for part in rcsb["chains"].split(",")]
        return [f"{rcsb['pdb'].upper()}_{part[2] or part[1]}" for part in parts if part]
    word = (header.split() or [""])[0]
    chain = _COMPLEX.match(word)
    if chain and (chain.end() == len(word) or word[chain.end()] == "|"):
        return [f"{chain[1].upper()}_{chain[2]}"]
    return [word]


def _chains_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the chains of the first model as its atoms show them; residues without letter are X."""
    chains: dict[str, dict[str, str]] = {}
    with path.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("ENDMDL"):
                break
            residue = line[17:20].strip()
            if line.startswith("ATOM") or (line.startswith("HETATM") and residue == "MSE"):
                chains.setdefault(line[21], {}).setdefault(line[22:27], _LETTERS.get(residue, "X"))
    for chain, residues in chains.items():
        yield f"{path.stem.upper()}_{chain}", "".join(residues.values())
