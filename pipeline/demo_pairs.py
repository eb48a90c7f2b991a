"""A synthetic pairs table whose affinity follows a planted rule.

Antibodies are mutants of germline-like parents, changed in their CDRs only. Each pair of parent and antigen
has a strength of its own; each mutation adds what the new residue is worth over the old one: aromatic residues
bind, so does charge opposite to the antigen's, and bulk does a little. Measurement noise comes on top.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
COLUMNS = ("pair_id", "heavy", "light", "antigen", "pkd")
PAIRS = 2000
ANTIBODIES = 500
NANOBODY_SHARE = 0.1
ANTIGEN_LENGTHS = (60, 131, 242, 487, 1100)
ANTIGEN_CHARGES = (-1.0, 0.6, -0.4, 1.0, 0.1)
"""Mean charge of each antigen's surface, which the rule and the antigen's composition share."""
NOISE_SD = 0.15
LOWEST_PKD, HIGHEST_PKD = 4.0, 11.0

_AROMATIC = {"Y": 0.5, "W": 0.7, "F": 0.4}
_CHARGE = {"K": 1.0, "R": 1.0, "H": 0.3, "D": -1.0, "E": -1.0}
_BULK = {"I": 0.2, "L": 0.2, "M": 0.15, "V": 0.1, "G": -0.25, "P": -0.35}
_CHARGE_WEIGHT = 0.25

Mutations = tuple[tuple[str, str], ...]
"""Residue before and after, for each CDR position that was changed."""

# Frameworks and CDRs in turn: FR1 CDR1 FR2 CDR2 FR3 CDR3 FR4.
_HEAVY = (
    "EVQLLESGGGLVQPGGSLRLSCAAS GFTFSSYAMS WVRQAPGKGLEWVS AISGSGGSTYYADSVKG "
    "RFTISRDNSKNTLYLQMNSLRAEDTAVYYCAK DRGSYGLDV WGQGTLVTVSS",
    "QVQLVQSGAEVKKPGSSVKVSCKAS GGTFSSYAIS WVRQAPGQGLEWMG GIIPIFGTANYAQKFQG "
    "RVTITADESTSTAYMELSSLRSEDTAVYYCAR EGDYVSAFDI WGQGTMVTVSS",
    "QVQLQESGPGLVKPSETLSLTCTVS GGSISSYYWS WIRQPPGKGLEWIG YIYYSGSTNYNPSLKS "
    "RVTISVDTSKNQFSLKLSSVTAADTAVYYCAR HLNSGWKYFDL WGRGTLVTVSS",
)
_LIGHT = (
    "DIQMTQSPSSLSASVGDRVTITC RASQSISSYLN WYQQKPGKAPKLLIY AASSLQS GVPSRFSGSGSGTDFTLTISSLQPEDFATYYC QQSYSTPLT FGGGTKVEIK",
    "EIVLTQSPGTLSLSPGERATLSC RASQSVSSSYLA WYQQKPGQAPRLLIY GASSRAT "
    "GIPDRFSGSGSGTDFTLTISRLEPEDFAVYYC QQYGSSPLT FGQGTKVEIK",
)
_NANOBODY = (
    "QVQLVESGGGLVQAGGSLRLSCAAS GRTFSSYAMG WFRQAPGKEREFVA AISWSGGSTYYADSVKG "
    "RFTISRDNAKNTVYLQMNSLKPEDTAVYYCAA DLGTVAPRNEYDY WGQGTQVTVSS",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Antibody:
    """One antibody: its chains, its parents and how its CDRs differ from theirs."""

    heavy: str
    light: str
    parent: int
    mutations: Mutations


def demo_rows(seed: int) -> list[tuple[str, str, str, str, str]]:
    """Make the rows of the table, in the order of `COLUMNS`; `light` is empty for nanobodies."""
    rng = np.random.default_rng(seed)
    antibodies = list(_antibodies(rng))
    antigens = [_antigen(rng, *traits) for traits in zip(ANTIGEN_LENGTHS, ANTIGEN_CHARGES, strict=True)]
    strength = _parent_strength(rng)
    chosen = np.sort(rng.choice(len(antibodies) * len(antigens), size=PAIRS, replace=False))
    rows = []
    for number, pair in enumerate(rng.permutation(chosen), start=1):
        antibody, target = antibodies[pair // len(antigens)], int(pair % len(antigens))
        pkd = strength[antibody.parent, target] + mutation_gain(antibody.mutations, ANTIGEN_CHARGES[target])
        pkd = float(np.clip(pkd + rng.normal(0.0, NOISE_SD), LOWEST_PKD, HIGHEST_PKD))
        rows.append((f"demo-{number:04d}", antibody.heavy, antibody.light, antigens[target], f"{pkd:.3f}"))
    return rows


def mutation_gain(mutations: Iterable[tuple[str, str]], antigen_charge: float) -> float:
    """Sum the pKd that CDR mutations `(before, after)` gain on an antigen: the planted rule."""

    def worth(residue: str) -> float:
        charge = -antigen_charge * _CHARGE_WEIGHT * _CHARGE.get(residue, 0.0)
        return _AROMATIC.get(residue, 0.0) + _BULK.get(residue, 0.0) + charge

    return sum(worth(after) - worth(before) for before, after in mutations)


def _parent_strength(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw the pKd of each unmutated parent (rows) on each antigen (columns)."""
    parents, antigens = len(_HEAVY) * len(_LIGHT) + len(_NANOBODY), len(ANTIGEN_LENGTHS)
    of_parent, of_antigen = rng.normal(0.0, 0.4, size=(parents, 1)), rng.normal(0.0, 0.6, size=(1, antigens))
    return 7.2 + of_parent + of_antigen + rng.normal(0.0, 0.15, size=(parents, antigens))


def _antibodies(rng: np.random.Generator) -> Iterator[Antibody]:
    seen: set[tuple[str, str]] = set()
    while len(seen) < ANTIBODIES:
        antibody = _draw_antibody(rng, nanobody=len(seen) < ANTIBODIES * NANOBODY_SHARE)
        if (antibody.heavy, antibody.light) not in seen:
            seen.add((antibody.heavy, antibody.light))
            yield antibody


def _draw_antibody(rng: np.random.Generator, *, nanobody: bool) -> Antibody:
    heavy_parents = _NANOBODY if nanobody else _HEAVY
    heavy_parent = int(rng.integers(len(heavy_parents)))
    heavy, changes = _mutant(rng, heavy_parents[heavy_parent], int(rng.integers(1, 6)))
    if nanobody:
        parent = len(_HEAVY) * len(_LIGHT) + heavy_parent
        return Antibody(heavy=heavy, light="", parent=parent, mutations=changes)
    light_parent = int(rng.integers(len(_LIGHT)))
    light, light_changes = _mutant(rng, _LIGHT[light_parent], int(rng.integers(0, 4)))
    parent = heavy_parent * len(_LIGHT) + light_parent
    return Antibody(heavy=heavy, light=light, parent=parent, mutations=changes + light_changes)


def _mutant(rng: np.random.Generator, parent: str, count: int) -> tuple[str, Mutations]:
    """Replace `count` distinct CDR residues of a parent chain; returns the chain and what changed."""
    stretches = [list(stretch) for stretch in parent.split()]
    places = [(cdr, i) for cdr in (1, 3, 5) for i in range(len(stretches[cdr]))]
    changes = []
    for place in rng.choice(len(places), size=count, replace=False):
        cdr, i = places[place]
        before = stretches[cdr][i]
        after = str(rng.choice([residue for residue in RESIDUES if residue not in (before, "C")]))
        stretches[cdr][i] = after
        changes.append((before, after))
    return "".join(residue for stretch in stretches for residue in stretch), tuple(changes)


def _antigen(rng: np.random.Generator, length: int, charge: float) -> str:
    weight = np.exp([charge * _CHARGE.get(residue, 0.0) for residue in RESIDUES])
    return "M" + "".join(rng.choice(list(RESIDUES), size=length - 1, p=weight / weight.sum()))
