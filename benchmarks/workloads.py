"""What is encoded: distinct sequences of real tables, or of a made-up one where those are absent.

Antigens longer than 1,022 residues are cut to that for every contestant alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq

from pipeline.demo_pairs import RESIDUES, demo_rows

LONGEST = 1022
"""Residues that ESM-2 was trained on at once."""

BUILTIN = "built-in table"

_RUN = 4
"""Sequences that a sample takes together, neighbours in length: they pad each other as they do in the whole table."""
_SMALL = 4
"""One of so many sequences of the large table is in the small one."""
_SEED = 0
_MUTANTS = 24
_ANTIBODIES = 500
_LENGTHS = (85, 95, 129, 129, 129, 169, 200, 228, 241, 267, 290, 306, 490, 566, 1022)
"""Of the built-in antigens, like those of skempi2_abag: mutants of a few complexes."""

Antibody = tuple[str, str]
S = TypeVar("S", str, Antibody)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Two tables of distinct sequences; the small one is a part of the large one."""

    source: str
    """The table they are from."""
    whole: int
    """Distinct sequences in it."""
    large: tuple[str | Antibody, ...]
    small: tuple[str | Antibody, ...]

    @property
    def residues(self) -> tuple[int, int]:
        """Residues of the large and the small table."""
        return sum(map(residues, self.large)), sum(map(residues, self.small))


def residues(sequence: str | Antibody) -> int:
    """Count residues, all chains together."""
    return len(sequence) if isinstance(sequence, str) else sum(map(len, sequence))


def workload(source: str, whole: Sequence[S], count: int) -> Workload:
    """Sample a table and cut its small part.

    Args:
        source: Name of the table.
        whole: Its distinct sequences.
        count: Sequences wanted in the large table, at least two.
    """
    large = sample(whole, count)
    by_length = sorted(large, key=residues)
    small = set(by_length[_SMALL // 2 :: _SMALL] or by_length[:1])
    return Workload(source=source, whole=len(whole), large=tuple(large), small=tuple(s for s in large if s in small))


def sample(whole: Sequence[S], count: int) -> list[S]:
    """Take runs of neighbours in length, spread evenly over all lengths, in the order of the table."""
    order = sorted(range(len(whole)), key=lambda i: (residues(whole[i]), i))
    runs = [order[start : start + _RUN] for start in range(0, len(order), _RUN)]
    wanted = min(len(runs), max(1, round(count / _RUN)))
    # the middle of each of `wanted` equal stretches
    chosen = [runs[int((n + 0.5) * len(runs) / wanted)] for n in range(wanted)]
    return [whole[i] for i in sorted(i for run in chosen for i in run)][:count]


def antigens(data: Path | None) -> tuple[str, list[str]]:
    """Read the distinct antigens of `skempi2_abag`, or make some.

    Args:
        data: Folder of the real tables.

    Returns:
        The name of the table and its distinct antigens, none longer than `LONGEST`.
    """
    path = data / "skempi2_abag.parquet" if data else None
    if path is None or not path.is_file():
        return BUILTIN, made_antigens(_MUTANTS)
    column = pq.read_table(path, columns=["antigen"]).column("antigen").to_pylist()
    return path.stem, list(dict.fromkeys(antigen[:LONGEST] for antigen in column))


def antibodies(data: Path | None) -> tuple[str, list[Antibody]]:
    """Read the distinct antibodies of `ch65_si06`, in an order without meaning, or make some.

    Returns:
        The name of the table, and heavy and light chain of each.
    """
    path = data / "ch65_si06.parquet" if data else None
    if path is None or not path.is_file():
        return BUILTIN, made_antibodies(_ANTIBODIES)
    columns = pq.read_table(path, columns=["heavy", "light"])
    pairs = list(dict.fromkeys(zip(*(columns.column(name).to_pylist() for name in ("heavy", "light")), strict=True)))
    # sorted by mutation in the file: a stretch of it would be more alike than the table
    order = np.random.default_rng(_SEED).permutation(len(pairs))
    return path.stem, [pairs[i] for i in order]


def made_antigens(mutants: int) -> list[str]:
    """Draw random parents of `_LENGTHS`, and so many mutants of each."""
    rng = np.random.default_rng(_SEED)
    parents = ("".join(rng.choice(list(RESIDUES), length)) for length in _LENGTHS)
    return list(dict.fromkeys(_mutant(rng, parent) for parent in parents for _ in range(mutants)))


def made_antibodies(count: int) -> list[Antibody]:
    """Take the demo's antibodies with a light chain, and mutate them further until there are enough."""
    made = list(dict.fromkeys((heavy, light) for _, heavy, light, *_ in demo_rows(_SEED) if light))
    rng = np.random.default_rng(_SEED)
    known = dict.fromkeys(made)
    while len(known) < count:
        heavy, light = made[int(rng.integers(len(made)))]
        known[_mutant(rng, heavy), _mutant(rng, light)] = None
    return list(known)[:count]


def _mutant(rng: np.random.Generator, parent: str) -> str:
    place = int(rng.integers(len(parent)))
    return parent[:place] + str(rng.choice(list(RESIDUES))) + parent[place + 1 :]


def variants(whole: Sequence[Antibody], count: int) -> list[Antibody]:
    """Take the antibodies of a table that are most like its first one, by residues that differ."""
    first = whole[0]
    alike = [pair for pair in whole if list(map(len, pair)) == list(map(len, first))]
    return sorted(alike, key=lambda pair: sum(a != b for a, b in zip("".join(pair), "".join(first), strict=True)))[
        :count
    ]
