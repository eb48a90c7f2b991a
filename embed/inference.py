"""The overlapped loop: while one batch is in the encoder, the next is tokenised and the last one written.

1. a thread tokenises batches ahead of the encoder
2. this thread copies a batch in, runs the encoder and starts the copy out
3. a thread waits for the copy, joins windows, checks the vectors and hands them on to be written
A batch that does not fit in memory is split and tried again; a lone piece that does not fit is reported.
"""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from embed.batching import auto_edges, coverage, cut_batches, token_budget
from embed.config import EmbedConfig
from embed.encoders.encoder import Batch, Encoder, Weights, collate
from embed.encoders.tokens import Ids
from embed.errors import EncoderError
from embed.pieces import Piece, cut_pieces
from embed.sequences import Antibody

# N sequences, B pieces in a batch, D width

_AHEAD = 2
_UNWRITTEN = 4

T = TypeVar("T")
R = TypeVar("R")
Write = Callable[[npt.NDArray[np.int64], npt.NDArray[np.float32]], None]
"""Takes indices of sequences, int64 `[B]`, and their vectors, float32 `[B, D]`."""


@dataclass(slots=True)
class Tally:
    """What the loop did."""

    tokens: int = 0
    padded: int = 0
    seconds: float = 0.0
    stopped: bool = False
    too_large: list[int] = field(default_factory=list)
    """Sequences that do not fit in memory even alone."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    pieces: list[Piece]
    vector_BD: torch.Tensor
    copied: torch.cuda.Event | None


class Loop:
    """Runs pieces of sequences through an encoder and hands whole vectors to `write`."""

    def __init__(
        self, encoder: Encoder, sequences: Sequence[Antibody | str], pieces: Sequence[Piece], write: Write
    ) -> None:
        self._encoder = encoder
        self._sequences = sequences
        self._pieces = pieces
        self._join = _Joiner(pieces, encoder.dim, write)
        self.tally = Tally()
        self._windows: dict[int, list[tuple[int, int]]] = {}
        for piece in pieces:
            self._windows.setdefault(piece.sequence, []).append((piece.start, piece.end))

    def run(
        self,
        edges: tuple[int, ...] | None,
        budget: int,
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> Tally:
        """Encode all pieces.

        Args:
            edges: Bucket edges in tokens; None chooses them from the pieces.
            budget: Padded tokens in a batch.
            progress: Told the tokens done and in all.
            stop: Polled at each batch; when true, what is encoded is handed on and the loop ends.

        Raises:
            EncoderError: A vector is not finite, or all zero.
        """
        started = time.perf_counter()
        tokens_N = np.array([piece.tokens for piece in self._pieces], np.int64)
        batches = cut_batches(tokens_N, edges or auto_edges(tokens_N, budget), budget)
        total, unwritten = int(tokens_N.sum()), deque[Future[None]]()
        with ThreadPoolExecutor(1, "tokenise") as tokenising, ThreadPoolExecutor(1, "write") as writing:
            for pieces, batch in _ahead(tokenising, self._tokenised, batches):
                if stop():
                    self.tally.stopped = True
                    break
                for encoded in self._encode(pieces, batch):
                    unwritten.append(writing.submit(self._hand_on, encoded))
                while len(unwritten) > _UNWRITTEN or (unwritten and unwritten[0].done()):
                    unwritten.popleft().result()
                progress(self.tally.tokens, total)
            for future in unwritten:
                future.result()
        self.tally.seconds = time.perf_counter() - started
        return self.tally

    def _tokenised(self, cut: tuple[npt.NDArray[np.int64], int]) -> tuple[list[Piece], Batch]:
        index_B, width = cut
        pieces = [self._pieces[i] for i in index_B]
        return pieces, collate([self._tokens(piece) for piece in pieces], self._encoder.pad, width)

    def _tokens(self, piece: Piece) -> tuple[Ids, Weights]:
        ids, pooled = self._encoder.tokenise(self._sequences[piece.sequence], piece.start, piece.end)
        if len(ids) != piece.tokens:
            raise EncoderError(
                f"A piece of {piece.tokens} tokens was tokenised into {len(ids)}; the tokenizer drops residues."
            )
        weights = pooled.astype(np.float32)
        windows = self._windows[piece.sequence]
        if len(windows) == 1:
            return ids, weights / weights.sum()
        length = windows[-1][1]
        weights[pooled] /= coverage(length, windows)[piece.start : piece.end] * np.float32(length)
        return ids, weights

    def _encode(self, pieces: list[Piece], batch: Batch) -> list[_Encoded]:
        encoded, waiting = [], [(pieces, batch)]
        while waiting:
            pieces, batch = waiting.pop()
            vector_BD = self._forward(batch)
            if vector_BD is not None:
                self.tally.tokens += sum(piece.tokens for piece in pieces)
                self.tally.padded += batch.ids_BL.size
                encoded.append(_Encoded(pieces, *_start_copy_out(vector_BD)))
            elif len(pieces) == 1:
                self.tally.too_large.append(pieces[0].sequence)
            else:
                half = len(pieces) // 2
                waiting += [(pieces[half:], _rows(batch, half, None)), (pieces[:half], _rows(batch, 0, half))]
        return encoded

    def _forward(self, batch: Batch) -> torch.Tensor | None:
        try:
            return self._encoder.forward(batch)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        # not inside `except`: its traceback would keep the tensors alive
        gc.collect()
        if self._encoder.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _hand_on(self, encoded: _Encoded) -> None:
        if encoded.copied is not None:
            encoded.copied.synchronize()
        self._join.add(encoded.pieces, encoded.vector_BD.numpy())


def encode(
    encoder: Encoder, sequences: Sequence[Antibody | str], config: EmbedConfig
) -> tuple[npt.NDArray[np.float32], Tally]:
    """Encode sequences into memory, as the embed stage encodes them into the store.

    Args:
        encoder: From `embed.encoders.open.open_encoder`.
        sequences: Antibodies or antigens, whichever the encoder reads.
        config: Batching and the policy on long antigens.

    Returns:
        Vectors, float32 `[N, D]` in the order of the sequences, and what the loop did.
    """
    vector_ND = np.zeros((len(sequences), encoder.dim), np.float32)

    def write(index_B: npt.NDArray[np.int64], vector_BD: npt.NDArray[np.float32]) -> None:
        vector_ND[index_B] = vector_BD

    loop = Loop(encoder, sequences, cut_pieces(sequences, encoder.token_count, config), write)
    edges = None if config.buckets == "auto" else config.buckets
    budget = token_budget(config.tokens_per_batch, encoder.device.type)
    return vector_ND, loop.run(edges, budget, lambda done, total: None, lambda: False)


class _Joiner:
    """Adds up the windows of each sequence and hands on those that are whole."""

    def __init__(self, pieces: Iterable[Piece], dim: int, write: Write) -> None:
        self._left: dict[int, int] = {}
        for piece in pieces:
            self._left[piece.sequence] = self._left.get(piece.sequence, 0) + 1
        self._sums: dict[int, npt.NDArray[np.float32]] = {}
        self._dim = dim
        self._write = write

    def add(self, pieces: Sequence[Piece], vector_BD: npt.NDArray[np.float32]) -> None:
        _refuse_broken(vector_BD, self._dim)
        whole: list[tuple[int, npt.NDArray[np.float32]]] = []
        for piece, vector_D in zip(pieces, vector_BD, strict=True):
            self._left[piece.sequence] -= 1
            if piece.sequence in self._sums:
                vector_D = self._sums.pop(piece.sequence) + vector_D
            if self._left[piece.sequence]:
                self._sums[piece.sequence] = vector_D
            else:
                whole.append((piece.sequence, vector_D))
        if whole:
            self._write(
                np.array([sequence for sequence, _ in whole], np.int64),
                np.stack([vector_D for _, vector_D in whole]),
            )


def _ahead(pool: ThreadPoolExecutor, do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    waiting = deque[Future[R]]()
    for item in items:
        waiting.append(pool.submit(do, item))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _start_copy_out(vector_BD: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    if vector_BD.device.type != "cuda":
        return vector_BD, None
    host_BD = torch.empty(vector_BD.shape, dtype=vector_BD.dtype, pin_memory=True)
    host_BD.copy_(vector_BD, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return host_BD, copied


def _rows(batch: Batch, start: int, end: int | None) -> Batch:
    rows = slice(start, end)
    return Batch(batch.ids_BL[rows], batch.weight_BL[rows], None if batch.mask_BL is None else batch.mask_BL[rows])


def _refuse_broken(vector_BD: npt.NDArray[np.float32], dim: int) -> None:
    if vector_BD.shape[1] != dim:
        raise EncoderError(f"The encoder made vectors of width {vector_BD.shape[1]}, where its config.json says {dim}.")
    if not np.isfinite(vector_BD).all():
        raise EncoderError(
            'The encoder made a vector that is not finite; nothing of it was stored. Use precision = "fp32".'
        )
    if not vector_BD.any(axis=1).all():
        raise EncoderError(
            "The encoder made a vector of zeros; nothing of it was stored. Check the checkpoint's weights."
        )


def _is_out_of_memory(error: BaseException) -> bool:
    # bitsandbytes, cuBLAS and the CPU allocator say it in words only
    words = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in str(error) for word in words)
