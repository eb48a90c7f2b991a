"""Which sequences are near-identical: exact in what it finds, quick where it need not look.

Identity of two sequences is 1 - edit distance / length of the longer one (Levenshtein: substitutions, insertions,
deletions). A sequence of n residues that lost its identity in d edits has lost at most 3 d of its distinct 3-mers
(Ukkonen 1992, q-gram lemma), so sets of 3-mers rule most others out before a distance is computed.

Shape suffixes: N sequences, C candidates, W words of 64 bits, K 3-mers, J cells of a band.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]

_K = 3
_LEAST_WORDS = 8
_BITS_PER_RESIDUE = 4
_CELLS_AT_ONCE = 1 << 22
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Knuth's multiplicative hash


class Library:
    """Sequences that can be asked which of them are near another one."""

    def __init__(self, sequences: Sequence[str], identity: float) -> None:
        """Take sequences in, to be near at an identity of 0 to 1 or more.

        Args:
            sequences: Upper-case letters, none empty.
            identity: Share of the longer sequence that is not edited; at least this much is near.
        """
        self._identity = identity
        self._length_N = np.array([len(sequence) for sequence in sequences], np.int64)
        self._start_N = np.cumsum(self._length_N) - self._length_N
        self._residue = np.frombuffer("".join(sequences).encode(), np.uint8)
        words = _LEAST_WORDS
        while words * 64 < _BITS_PER_RESIDUE * int(self._length_N.max(initial=1)):
            words *= 2
        self._word_NW = np.stack([kmer_bits(sequence, words) for sequence in sequences] or [np.empty(words, np.uint64)])
        self._bits_N = np.bitwise_count(self._word_NW).sum(axis=1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._length_N)

    def near(self, query: str, among_M: Index) -> Flags:
        """Tell which of some sequences, given by their numbers, are near to another one; bool [M]."""
        possible, edits_C = self._possible(query, among_M)
        near_C = self._substituted(query, among_M[possible]) <= edits_C
        left = np.flatnonzero(~near_C)
        near_C[left] = self._edited(query, among_M[possible[left]], edits_C[left])
        return _flags(possible[near_C], len(among_M))

    def near_by_substitution(self, query: str, among_M: Index) -> Flags:
        """Tell the same, but of sequences of the query's length alone, and without insertions and deletions."""
        possible, edits_C = self._possible(query, among_M)
        return _flags(possible[self._substituted(query, among_M[possible]) <= edits_C], len(among_M))

    def _possible(self, query: str, among_M: Index) -> tuple[Index, Index]:
        """List the places of those that lengths and 3-mers do not rule out, and the edits that each may be away."""
        longer_M = np.maximum(self._length_N[among_M], len(query))
        edits_M = np.floor((1 - self._identity) * longer_M + 1e-9).astype(np.int64)
        possible = np.flatnonzero(np.abs(self._length_N[among_M] - len(query)) <= edits_M)
        possible = possible[self._share_kmers(query, among_M[possible], edits_M[possible])]
        return possible, edits_M[possible]

    def _share_kmers(self, query: str, index_C: Index, edits_C: Index) -> Flags:
        """Tell which candidates hold so many of the 3-mers that `edits_C` edits may have left."""
        word_W = kmer_bits(query, self._word_NW.shape[1])
        shared_C = np.zeros(len(index_C), np.int64)
        step = max(1, _CELLS_AT_ONCE // len(word_W))
        for start in range(0, len(index_C), step):
            some = slice(start, start + step)
            shared_C[some] = np.bitwise_count(self._word_NW[index_C[some]] & word_W).sum(axis=1)
        most_C = np.maximum(self._bits_N[index_C], int(np.bitwise_count(word_W).sum()))
        enough_C: Flags = shared_C >= most_C - _K * edits_C
        return enough_C

    def _substituted(self, query: str, index_C: Index) -> Index:
        """Count the places where candidates of the query's length differ; more than any distance for others."""
        length = len(query)
        distance_C = np.full(len(index_C), np.iinfo(np.int64).max)
        query_L = np.frombuffer(query.encode(), np.uint8)
        same = np.flatnonzero(self._length_N[index_C] == length)
        step = max(1, _CELLS_AT_ONCE // max(1, length))
        for start in range(0, len(same), step):
            some = same[start : start + step]
            residue_CL = self._residue[self._start_N[index_C[some]][:, None] + np.arange(length)]
            distance_C[some] = (residue_CL != query_L).sum(axis=1)
        return distance_C

    def _edited(self, query: str, index_C: Index, edits_C: Index) -> Flags:
        """Tell which candidates are at most `edits_C` edits away, in a band of Levenshtein's table."""
        if not len(index_C):
            return np.zeros(0, np.bool_)
        step = max(1, _CELLS_AT_ONCE // (2 * int(edits_C.max()) + 1))
        cuts = [slice(start, start + step) for start in range(0, len(index_C), step)]
        return np.concatenate([self._band(query, index_C[cut], edits_C[cut]) for cut in cuts])

    def _band(self, query: str, index_C: Index, edits_C: Index) -> Flags:
        """Fill the table row by row: cell j of row i stands for i residues of the query, i + j - band of the other."""
        band, length_C = int(edits_C.max()), self._length_N[index_C]
        offset_J = np.arange(2 * band + 1, dtype=np.int32)
        far = np.int32(len(query) + int(length_C.max()) + 1)
        row_CJ = np.where(offset_J >= band, offset_J - band, far).repeat(len(index_C)).reshape(-1, len(index_C)).T
        row_CJ = np.ascontiguousarray(row_CJ)
        last = len(self._residue) - 1
        for i, letter in enumerate(query.encode(), start=1):
            column_J = i + offset_J - band
            place_CJ = np.clip(self._start_N[index_C][:, None] + column_J - 1, 0, last)
            diagonal_CJ = row_CJ + (self._residue[place_CJ] != letter)
            above_CJ = np.append(row_CJ[:, 1:], np.full((len(index_C), 1), far), axis=1) + 1
            best_CJ = np.minimum(diagonal_CJ, above_CJ)
            best_CJ[:, column_J < 0] = far
            best_CJ[:, column_J == 0] = i
            row_CJ = np.minimum.accumulate(best_CJ - offset_J, axis=1) + offset_J  # insertions, from left to right
        end_C = length_C - len(query) + band
        near_C: Flags = row_CJ[np.arange(len(index_C)), end_C] <= edits_C
        return near_C


def identities(query: str, others: Sequence[str]) -> list[float]:
    """Tell the identity of a sequence with each of some others.

    Myers's algorithm (1999, J. ACM 46:395) as Hyyrö (2003) states it: a column of Levenshtein's table is two sets of
    bits, where a cell is one more and where it is one less than the cell above it. The others lie side by side in the
    bits of one integer, with a bit between them that stops carries.
    """
    rows_of: dict[str, int] = {}
    lanes, first, end = [], 0, 0
    for other in others:
        first |= 1 << end
        for row, letter in enumerate(other, start=end):
            rows_of[letter] = rows_of.get(letter, 0) | 1 << row
        lanes.append(((1 << len(other)) - 1) << end)
        end += len(other) + 1
    every = up = sum(lanes)
    down = 0
    for letter in query:
        same = rows_of.get(letter, 0)
        diagonal = (((same & up) + up) ^ up) | same | down
        right_up, right_down = (down | ~(diagonal | up)) << 1 | first, (diagonal & up) << 1
        up, down = (right_down | ~(diagonal | right_up)) & every, diagonal & right_up & every
    distances = [len(query) + (up & lane).bit_count() - (down & lane).bit_count() for lane in lanes]
    return [1 - edits / max(len(query), len(other)) for edits, other in zip(distances, others, strict=True)]


def _flags(place: Index, length: int) -> Flags:
    flag_M = np.zeros(length, np.bool_)
    flag_M[place] = True
    return flag_M


def kmer_bits(sequence: str, words: int) -> npt.NDArray[np.uint64]:
    """Hash the distinct 3-mers of a sequence to a set of `words` times 64 bits, uint64 [W]."""
    residue = np.frombuffer(sequence.encode(), np.uint8).astype(np.uint64)
    if len(residue) < _K:
        return np.zeros(words, np.uint64)
    code_K = residue[:-2] | residue[1:-1] << np.uint64(8) | residue[2:] << np.uint64(16)
    bit_K = (code_K * _MIX >> np.uint64(40)) % np.uint64(64 * words)
    flag = np.zeros(64 * words, np.uint8)
    flag[bit_K] = 1
    return np.packbits(flag, bitorder="little").view(np.uint64)
