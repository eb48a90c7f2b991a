"""How alike the nearest of many sequences is: an index of words of five residues, then edit distances to a few.

Two sequences of n residues that differ in d edits share a run of (n - d) / (d + 1) residues: five or more where their
identity is at least 0.9. Of each word at most 16 sequences are listed, in random order, so that frameworks which
all antibodies share cost no more than what is rare; what a query's words list is ranked by sets of 3-mers, and edit
distances to the three most alike are computed. So a nearer sequence may be missed where a word has many holders, and
where identities are so low that no word is left.

Shape suffixes: N sequences, R residues, P postings, C candidates, W words of 64 bits.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import ne

import numpy as np
import numpy.typing as npt

from embed.sequences import RESIDUES
from train.identity import identities, kmer_bits

Index = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]

_LENGTH = 5
_WORDS = len(RESIDUES) ** _LENGTH
_HOLDERS = 16
_FINALISTS = 3
_AT_ONCE = 1 << 20
_LEAST_WORDS, _MOST_WORDS, _BITS_PER_RESIDUE = 8, 64, 4

_DIGIT = np.zeros(256, np.uint8)
_DIGIT[np.frombuffer(RESIDUES.encode(), np.uint8)] = np.arange(len(RESIDUES))


class Nearest:
    """Distinct sequences that can be asked how alike the nearest of them is."""

    def __init__(self, sequences: Sequence[str]) -> None:
        """Take sequences over `RESIDUES` in; the first ones stand for a word that has many, so give a random order."""
        self._sequences = sequences
        self._length_N = np.array([len(sequence) for sequence in sequences], np.int64)
        self._start, self._holder_P = _list_holders(sequences, self._length_N)
        words = _LEAST_WORDS
        while words < _MOST_WORDS and words * 64 < _BITS_PER_RESIDUE * float(self._length_N.mean()):
            words *= 2
        self._bits_NW = np.stack([kmer_bits(sequence, words) for sequence in sequences])
        self._bits_N = np.bitwise_count(self._bits_NW).sum(axis=1, dtype=np.int64)

    def identity(self, query: str, *, enough: float) -> float:
        """Tell the identity of the nearest sequence that is found, 0 where none shares a word.

        From `enough` on, it is only told that there is one so near: a value of `enough` or more.
        """
        finalists = [self._sequences[at] for at in self._most_alike(query).tolist()]
        for other in finalists:  # substitutions alone are counted in no time, and are at least the edit distance
            if len(other) == len(query):
                identity = 1 - sum(map(ne, query, other)) / len(query)
                if identity >= enough:
                    return identity
        return max(identities(query, finalists), default=0.0)

    def _most_alike(self, query: str) -> Index:
        """List the candidates that share most 3-mers with a query, the most alike first."""
        code_R = _codes(query)
        start_R = self._start[code_R].astype(np.int64)
        count_R = self._start[code_R + 1] - start_R
        place_P = np.repeat(start_R - (np.cumsum(count_R) - count_R), count_R) + np.arange(count_R.sum())
        candidate_C = np.unique(self._holder_P[place_P])
        bits_W = kmer_bits(query, self._bits_NW.shape[1])
        shared_C = np.bitwise_count(self._bits_NW[candidate_C] & bits_W).sum(axis=1)
        most_C = np.maximum(self._bits_N[candidate_C], np.bitwise_count(bits_W).sum())
        order: Index = np.argsort(-shared_C / np.maximum(most_C, 1), kind="stable")[:_FINALISTS]
        return candidate_C[order].astype(np.int64)


def _list_holders(sequences: Sequence[str], length_N: Index) -> tuple[Codes, Codes]:
    """List of each word the first sequences that hold it: where its list starts, int32 [words + 1], and all lists."""
    listed = np.zeros(_WORDS, np.int32)
    codes, holders = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for first, stop in _stretches(length_N):
        code_R = _codes("".join(sequences[first:stop]))
        owner_R = np.repeat(np.arange(first, stop, dtype=np.int32), length_N[first:stop])
        within_R = owner_R[: len(code_R)] == owner_R[_LENGTH - 1 :]
        code_P, holder_P = code_R[within_R], owner_R[: len(code_R)][within_R]
        order_P = np.argsort(code_P, kind="stable")
        code_P, holder_P = code_P[order_P], holder_P[order_P]
        new_P = (np.diff(code_P, prepend=-1) != 0) | (np.diff(holder_P, prepend=-1) != 0)
        code_P, holder_P = code_P[new_P], holder_P[new_P]
        run_P = np.searchsorted(code_P, code_P)  # where the word's run begins
        kept_P = np.arange(len(code_P)) - run_P + listed[code_P] < _HOLDERS
        codes.append(code_P[kept_P])
        holders.append(holder_P[kept_P])
        np.add.at(listed, code_P[kept_P], 1)
    order_P = np.argsort(np.concatenate(codes), kind="stable")
    return np.append(np.int32(0), np.cumsum(listed, dtype=np.int32)), np.concatenate(holders)[order_P]


def _stretches(length_N: Index) -> Iterator[tuple[int, int]]:
    """Cut sequences into stretches of about so many residues."""
    edges = np.searchsorted(np.cumsum(length_N), np.arange(0, int(length_N.sum()), _AT_ONCE))
    yield from pairwise(np.unique(np.append(edges, len(length_N))).tolist())


def _codes(residues: str) -> Codes:
    """Number the word that begins at each residue but the last four, int32 [R - 4]."""
    digit_R = _DIGIT[np.frombuffer(residues.encode(), np.uint8)].astype(np.int32)
    code_R = digit_R[: 1 - _LENGTH]
    for shift in range(1, _LENGTH):
        code_R = code_R * len(RESIDUES) + digit_R[shift : len(digit_R) - _LENGTH + 1 + shift]
    return code_R
