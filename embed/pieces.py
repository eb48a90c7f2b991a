"""What an encoder reads at once: a whole antibody, or one window of an antigen."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.batching import windows
from embed.config import EmbedConfig
from embed.sequences import Antibody

# N sequences, P pieces
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Residues `start` to `end` of sequences; those of one sequence are neighbours."""

    sequence_P: Ints
    start_P: Ints
    end_P: Ints
    token_P: Ints
    """Tokens of each piece."""

    def __len__(self) -> int:
        return len(self.sequence_P)

    def of(self, sequence: int) -> list[tuple[int, int]]:
        """List the bounds of one sequence's pieces."""
        first, last = np.searchsorted(self.sequence_P, [sequence, sequence + 1])
        return list(zip(self.start_P[first:last].tolist(), self.end_P[first:last].tolist(), strict=True))


def in_turn(pieces: Pieces, most_residues: int) -> Iterator[Ints]:
    """Cut pieces so that only so many residues of sequences in several windows are in work at a time.

    Args:
        pieces: All pieces.
        most_residues: Of the sequences in several windows that share a stretch; a longer one has its own.

    Yields:
        Numbers of pieces, of whole sequences: those in several windows first, then all others at once.
    """
    first_S, count_S = np.unique(pieces.sequence_P, return_index=True, return_counts=True)[1:]
    windowed = np.flatnonzero(count_S > 1)
    residue_W = pieces.end_P[first_S[windowed] + count_S[windowed] - 1]
    start = 0
    while start < len(windowed):
        fitting = int(np.searchsorted(np.cumsum(residue_W[start:]), most_residues, side="right"))
        some = windowed[start : start + max(1, fitting)]
        spans = zip(first_S[some].tolist(), count_S[some].tolist(), strict=True)
        yield np.concatenate([np.arange(first, first + count) for first, count in spans])
        start += len(some)
    if len(windowed) < len(first_S):
        yield first_S[count_S == 1]


def measure(sequences: Sequence[Antibody | str]) -> tuple[Ints, Ints | None]:
    """Count residues and, of antibodies, chains: int64 `[N]` each."""
    if not len(sequences) or isinstance(sequences[0], str):
        return np.fromiter(map(len, sequences), np.int64, len(sequences)), None
    counts_N2 = np.array([(len(s[0]) + len(s[1] or ""), 1 + (s[1] is not None)) for s in sequences], np.int64)
    return counts_N2[:, 0], counts_N2[:, 1]


def cut_pieces(
    length_N: npt.NDArray[np.integer],
    chain_N: npt.NDArray[np.integer] | None,
    token_count: Callable[[int, int], int],
    config: EmbedConfig,
) -> Pieces:
    """Cut sequences into pieces by the config's policy on long antigens.

    Args:
        length_N: Residues of each sequence, all chains together.
        chain_N: Chains of each antibody, which is never cut; None for antigens.
        token_count: Tokens of a piece, from its residues and chains.
        config: `long`, `window` and `stride`.
    """
    end_N = length_N.astype(np.int64)
    if chain_N is None and config.long == "truncate":
        end_N = np.minimum(end_N, config.window)
    whole = _whole(end_N, np.ones(len(end_N), np.int64) if chain_N is None else chain_N, token_count)
    if chain_N is not None or config.long != "window":  # with "error", the table has refused what does not fit
        return whole
    long = np.flatnonzero(end_N > config.window)
    return _windowed(whole, long, token_count, config) if len(long) else whole


def _whole(end_N: Ints, chain_N: npt.NDArray[np.integer], token_count: Callable[[int, int], int]) -> Pieces:
    special = {int(chains): token_count(0, int(chains)) for chains in np.unique(chain_N)}
    token_N = end_N.copy()
    for chains, tokens in special.items():
        token_N[chain_N == chains] += tokens
    return Pieces(np.arange(len(end_N)), np.zeros(len(end_N), np.int64), end_N, token_N)


def _windowed(whole: Pieces, long: Ints, token_count: Callable[[int, int], int], config: EmbedConfig) -> Pieces:
    bounds = [windows(int(whole.end_P[index]), config.window, config.stride) for index in long]
    cut_W3 = np.array([(i, *b) for i, of in zip(long.tolist(), bounds, strict=True) for b in of], np.int64)
    kept = np.delete(np.arange(len(whole)), long)
    sequence_P = np.concatenate([whole.sequence_P[kept], cut_W3[:, 0]])
    order_P = np.argsort(sequence_P, kind="stable")
    start_P = np.concatenate([whole.start_P[kept], cut_W3[:, 1]])[order_P]
    end_P = np.concatenate([whole.end_P[kept], cut_W3[:, 2]])[order_P]
    return Pieces(sequence_P[order_P], start_P, end_P, end_P - start_P + token_count(0, 1))
