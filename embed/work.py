"""What is left to read: a table's distinct sequences by encoder, this part's share, minus what the store holds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.batching import share_of_work
from embed.fingerprint import Source, Sources
from embed.pairs import PairTable
from embed.sequences import antibody_keys, antigen_keys
from embed.store.reader import Vectors
from embed.texts import Antibodies, Texts

# N sequences, K bytes of a key


@dataclass(frozen=True, slots=True)
class Work:
    """Sequences that one encoder must read."""

    source: Source
    sequences: Antibodies | Texts
    key_NK: npt.NDArray[np.uint8]
    length_N: npt.NDArray[np.int32]
    """Residues, all chains together."""

    def __len__(self) -> int:
        return len(self.sequences)


def left_to_read(table: PairTable, sources: Sources, part: tuple[int, int]) -> list[tuple[Work, int]]:
    """List a part's work by encoder, and how much of it the store holds already.

    Args:
        table: The pairs.
        sources: The encoders.
        part: `(i, N)`: only the i-th of N shares of the distinct sequences.
    """
    return [_missing(_share(whole, part)) for whole in _all_work(table, sources)]


def _all_work(table: PairTable, sources: Sources) -> list[Work]:
    antibodies, antigens = table.antibodies, table.antigens
    apart = sources.single.fingerprint != sources.paired.fingerprint
    single_N = antibodies.alone() & apart
    work = [
        _antibody_work(sources.paired, antibodies.take(np.flatnonzero(~single_N))),
        _antibody_work(sources.single, antibodies.take(np.flatnonzero(single_N))),
    ]
    return [w for w in work if len(w)] + [Work(sources.antigen, antigens, antigen_keys(antigens), antigens.lengths())]


def _antibody_work(source: Source, antibodies: Antibodies) -> Work:
    return Work(source, antibodies, antibody_keys(antibodies), antibodies.lengths())


def _share(work: Work, part: tuple[int, int]) -> Work:
    return work if part == (1, 1) else _take(work, share_of_work(work.length_N.astype(np.int64), work.key_NK, part))


def _missing(work: Work) -> tuple[Work, int]:
    absent_N = Vectors(work.source.folder).find(work.key_NK) < 0
    return _take(work, absent_N), int((~absent_N).sum())


def _take(work: Work, chosen_N: npt.NDArray[np.bool_]) -> Work:
    sequences = work.sequences.take(np.flatnonzero(chosen_N))
    return Work(work.source, sequences, work.key_NK[chosen_N], work.length_N[chosen_N])
