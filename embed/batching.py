"""Which sequences share a forward pass, and which are whose: pure functions of lengths and keys."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

# N sequences or pieces; K bytes of a key
Ints = npt.NDArray[np.int64]

MOST_PADDING = 0.05
"""Share of padding that `auto` buckets allow when lengths must be pooled to fill a batch."""

_CACHED = 0.5
"""Share of the last-level cache that the widest activations of a batch may take (benchmarks/NOTES.md)."""
_ON_DEVICE = 0.5
"""Share of free GPU memory that all activations of a layer may take."""
_LEAST, _MOST = {"cpu": 512, "cuda": 4096}, {"cpu": 4096, "cuda": 32768}
"""Tokens below which overheads show, and above which nothing is won."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What decides the size of a batch."""

    device: Literal["cpu", "cuda"]
    bytes: int
    """Last-level cache of the CPU, or free memory of the GPU."""
    width: int
    """Floats that one token takes in the widest activation (CPU) or in all activations of a layer (CUDA)."""


def token_budget(asked: int | Literal["auto"], room: Room) -> int:
    """Tell how many tokens, padding included, a batch may hold.

    Args:
        asked: The config's `tokens_per_batch`.
        room: Where the batch must fit.
    """
    if asked != "auto":
        return asked
    share = _CACHED if room.device == "cpu" else _ON_DEVICE
    fitting = int(share * room.bytes) // (4 * room.width)
    return min(_MOST[room.device], max(_LEAST[room.device], fitting // 64 * 64))


def windows(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Cut a sequence into overlapping windows; a sequence that fits is one window.

    Args:
        length: Residues in the sequence.
        window: Most residues in a window.
        stride: Residues between two starts, at most `window`.

    Returns:
        `(start, end)` of each window; together they cover every residue and the last one ends at `length`.
    """
    last = max(0, -(-(length - window) // stride))
    return [(n * stride, min(n * stride + window, length)) for n in range(last + 1)]


def coverage(length: int, pieces: Sequence[tuple[int, int]]) -> npt.NDArray[np.int32]:
    """Count the windows over each residue.

    Returns:
        Counts, int32 `[length]`, at least 1 everywhere for the pieces that `windows` makes.
    """
    steps = np.zeros(length + 1, np.int32)
    for start, end in pieces:
        steps[start] += 1
        steps[end] -= 1
    return np.cumsum(steps[:-1], dtype=np.int32)


def auto_edges(tokens_N: Ints, budget: int) -> tuple[int, ...]:
    """Choose bucket edges so that batches fill their budget at no more than `MOST_PADDING`.

    Lengths common enough to fill a batch keep a bucket of their own and are never padded.

    Args:
        tokens_N: Tokens of each piece.
        budget: Padded tokens that a batch may hold.

    Returns:
        Rising edges in tokens; the last one is the longest piece.
    """
    lengths, counts = np.unique(tokens_N, return_counts=True)
    edges: list[int] = []
    pieces = tokens = edge = 0
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        padded = (pieces + count) * length
        full = pieces * edge >= budget
        if pieces and (full or 1 - (tokens + count * length) / padded > MOST_PADDING):
            edges.append(edge)
            pieces = tokens = 0
        pieces, tokens, edge = pieces + count, tokens + count * length, length
    return (*edges, edge) if pieces else tuple(edges)


def cut_rows(tokens_N: Ints, budget: Callable[[], int]) -> Iterator[Ints]:
    """Cut pieces into rows to be laid end to end, longest first so that the first row proves the memory.

    Args:
        tokens_N: Tokens of each piece.
        budget: Tells, before each row, the tokens that it may hold; a piece longer than that goes alone.

    Yields:
        Indices of the pieces of one row, int64, longest first; each piece is in exactly one.
    """
    order_N = np.argsort(-tokens_N, kind="stable")
    end_N = np.cumsum(tokens_N[order_N])
    start = 0
    while start < len(order_N):
        before = int(end_N[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(end_N, before + budget(), side="right")))
        yield order_N[start:stop]
        start = stop


def cut_buckets(tokens_N: Ints, edges: Sequence[int], budget: Callable[[], int]) -> Iterator[tuple[Ints, int]]:
    """Cut pieces into padded batches, longest first so that the largest batch proves the memory.

    Args:
        tokens_N: Tokens of each piece.
        edges: Rising bucket edges in tokens; longer pieces share one more bucket, as long as its longest.
        budget: Tells, before each batch, the tokens that a batch may hold; a piece longer than that goes alone.

    Yields:
        Indices of one batch (each piece is in exactly one) and the tokens that its rows are padded to.
    """
    order_N = np.argsort(tokens_N, kind="stable")
    bucket_N = np.searchsorted(np.asarray(edges, np.int64), tokens_N[order_N])
    for bucket in np.unique(bucket_N)[::-1]:
        members = order_N[bucket_N == bucket]
        width = edges[bucket] if bucket < len(edges) else int(tokens_N[members].max())
        while len(members):
            rows = max(1, budget() // width)
            yield members[:rows], width
            members = members[rows:]


def share_of_work(length_N: Ints, key_NK: npt.NDArray[np.uint8], part: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Tell which sequences belong to part i of N, whatever the store holds.

    Sequences sorted by length and key are dealt like cards, so every part gets the same mix of lengths.

    Args:
        length_N: Residues of each distinct sequence.
        key_NK: Sequence keys, uint8 `[N, K]`.
        part: `(i, N)` with 1 <= i <= N.

    Returns:
        True where the sequence is this part's, bool `[N]`.
    """
    index, parts = part
    order_N = np.lexsort([*key_NK.T[::-1], length_N])
    mine_N = np.zeros(len(length_N), bool)
    mine_N[order_N[index - 1 :: parts]] = True
    return mine_N
