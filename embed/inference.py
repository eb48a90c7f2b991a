"""The overlapped loop: while one batch is in the encoder, the next is tokenised and the last one written.

1. a thread tokenises batches ahead of the encoder
2. this thread copies a batch in, runs the encoder and starts the copy out
3. a thread waits for the copy, joins windows, checks the vectors and hands them on to be written
A batch that does not fit in memory is split and tried again, and those to come are half as large; a lone piece that
does not fit is reported.
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

from embed.batching import auto_edges, coverage, cut_buckets, cut_rows, token_budget
from embed.config import EmbedConfig
from embed.encoders.encoder import Batch, Encoder, Weights, pack, pad
from embed.encoders.timing import Copied, Timer
from embed.encoders.tokens import Ids
from embed.errors import EncoderError
from embed.joining import Flags, Ints, Joiner, Write
from embed.pieces import Pieces, cut_pieces, in_turn, measure
from embed.residues import MOST_RESIDUES, ResidueJoiner, WriteResidues
from embed.sequences import Antibody

# N sequences, B pieces in a batch, L tokens, V vectors of a sequence, D width of all of them side by side

_AHEAD = 2
_UNWRITTEN = 4

Encoded = tuple[Ints, Flags, torch.Tensor, Copied]
"""Pieces, which of their vectors are filled, float32 `[B, D]`, and when these have arrived."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class Tally:
    """What the loop did."""

    tokens: int = 0
    padded: int = 0
    """Tokens that the encoder computed, padding included."""
    seconds: float = 0.0
    busy_seconds: float = 0.0
    """Of these, seconds in which the device computed."""
    stopped: bool = False
    too_large: list[int] = field(default_factory=list)
    """Sequences that do not fit in memory even alone."""


class Loop:
    """Runs pieces of sequences through an encoder and hands whole vectors to a function.

    With the pooling `residues` these are the states of the residues of each sequence.
    """

    def __init__(
        self,
        encoder: Encoder,
        sequences: Sequence[Antibody | str],
        pieces: Pieces,
        write: Write | WriteResidues,
        config: EmbedConfig,
    ) -> None:
        self._encoder = encoder
        self._sequences = sequences
        self._pieces = pieces
        self._each_residue = config.pooling == "residues"
        joiner: Callable[..., Joiner | ResidueJoiner] = ResidueJoiner if self._each_residue else Joiner
        self._joiner = joiner(pieces, encoder.dim, write)
        self._config = config
        self._budget = token_budget(config.tokens_per_batch, encoder.room())
        self._timer = Timer(encoder.device)
        self.compiling = encoder.prepare(config.compile, int(pieces.token_P.sum()))
        self.tally = Tally()

    def run(
        self,
        progress: Callable[[int, int], None] = lambda done, total: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Encode all pieces.

        Args:
            progress: Told the tokens done and in all.
            stop: Polled at each batch; when true, what is encoded is handed on and the loop ends.

        Raises:
            EncoderError: A vector is not finite, or all zero.
        """
        started = time.perf_counter()
        total, unwritten = int(self._pieces.token_P.sum()), deque[Future[None]]()
        with ThreadPoolExecutor(1, "tokenise") as tokenising, ThreadPoolExecutor(1, "write") as writing:
            for index_B, width, batch in _ahead(tokenising, self._tokenised, self._cut()):
                if stop():
                    self.tally.stopped = True
                    break
                for done in self._encode(index_B, width, batch):
                    unwritten.append(writing.submit(self._hand_on, *done))
                while len(unwritten) > _UNWRITTEN or (unwritten and unwritten[0].done()):
                    unwritten.popleft().result()
                progress(self.tally.tokens, total)
            for future in unwritten:
                future.result()
        self.tally.seconds = time.perf_counter() - started
        self.tally.busy_seconds = self._timer.seconds
        return self.tally

    def _cut(self) -> Iterator[tuple[Ints, int | None]]:
        """Yield the pieces of each batch, and the width they are padded to; None where they lie end to end."""
        pieces = self._pieces
        stretches = in_turn(pieces, MOST_RESIDUES) if self._each_residue else [np.arange(len(pieces))]
        for some in stretches:
            token_P = pieces.token_P[some]
            if self._config.batching == "packed":
                yield from ((some[index_B], None) for index_B in cut_rows(token_P, lambda: self._budget))
            else:
                edges = auto_edges(token_P, self._budget) if self._config.buckets == "auto" else self._config.buckets
                cut = cut_buckets(token_P, edges, lambda: self._budget)
                yield from ((some[index_B], width) for index_B, width in cut)

    def _tokenised(self, cut: tuple[Ints, int | None]) -> tuple[Ints, int | None, Batch]:
        index_B, width = cut
        tokens = [self._tokens(piece) for piece in index_B.tolist()]
        if width is None:
            fill = self._budget if self._encoder.compiled else None  # compiled layers want one length
            return index_B, width, pack(tokens, self._encoder.pad_id, fill)
        return index_B, width, pad(tokens, self._encoder.pad_id, width)

    def _tokens(self, piece: int) -> tuple[Ids, Weights]:
        pieces = self._pieces
        sequence, start, end = (int(of_P[piece]) for of_P in (pieces.sequence_P, pieces.start_P, pieces.end_P))
        ids, pooled_VL = self._encoder.tokenise(self._sequences[sequence], start, end)
        expected = int(pieces.token_P[piece])
        if len(ids) != expected:
            raise EncoderError(
                f"A piece of {expected} tokens was tokenised into {len(ids)}; the tokenizer drops residues."
            )
        weight_VL = pooled_VL.astype(np.float32)
        windows = pieces.of(sequence)
        if len(windows) == 1:
            return ids, weight_VL / np.maximum(weight_VL.sum(axis=1, keepdims=True), 1)
        length = windows[-1][1]  # of an antigen, which has one vector
        weight_VL[pooled_VL] /= coverage(length, windows)[start:end] * np.float32(length)
        return ids, weight_VL

    def _encode(self, index_B: Ints, width: int | None, batch: Batch) -> Iterator[Encoded]:
        vector_BD = self._forward(batch)
        if vector_BD is None and len(index_B) == 1:
            vector_BD = self._forward(batch)  # it may have lacked just what has been freed since
        if vector_BD is not None:
            self.tally.tokens += int(self._pieces.token_P[index_B].sum())
            self.tally.padded += batch.size
            yield index_B, batch.filled_BV, *self._timer.copy_out(vector_BD)
        elif len(index_B) == 1:
            self.tally.too_large.append(int(self._pieces.sequence_P[index_B[0]]))
        else:
            self._budget = max(1, min(self._budget, batch.size) // 2)
            for half_B in np.array_split(index_B, 2):
                yield from self._encode(*self._tokenised((half_B, width)))

    def _forward(self, batch: Batch) -> torch.Tensor | None:
        try:
            with self._timer:
                return self._encoder.residues(batch) if self._each_residue else self._encoder.forward(batch)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        # not inside `except`: its traceback would keep the tensors alive
        gc.collect()
        if self._encoder.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _hand_on(self, index_B: Ints, filled_BV: Flags, vector_BD: torch.Tensor, copied: Copied) -> None:
        self._timer.wait(copied)
        if isinstance(self._joiner, ResidueJoiner):
            self._joiner.add(index_B, vector_BD.numpy())
        else:
            self._joiner.add(index_B, vector_BD.numpy(), filled_BV)


def encode(
    encoder: Encoder, sequences: Sequence[Antibody | str], config: EmbedConfig
) -> tuple[npt.NDArray[np.float32], Tally]:
    """Encode sequences into memory, as the embed stage encodes them into the store; of `residues` the means.

    Args:
        encoder: From `embed.encoders.open.open_encoder`.
        sequences: Antibodies or antigens, whichever the encoder reads.
        config: Batching and the policy on long antigens.

    Returns:
        Vectors, float32 `[N, D]` in the order of the sequences, and what the loop did.
    """
    vector_ND = np.zeros((len(sequences), encoder.dim), np.float32)

    def write(index_B: Ints, vector_BD: npt.NDArray[np.float32]) -> None:
        vector_ND[index_B] = vector_BD

    config = config.one_vector()
    pieces = cut_pieces(*measure(sequences), encoder.token_count, config)
    return vector_ND, Loop(encoder, sequences, pieces, write, config).run()


def _ahead(pool: ThreadPoolExecutor, do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    waiting = deque[Future[R]]()
    for item in items:
        waiting.append(pool.submit(do, item))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _is_out_of_memory(error: BaseException) -> bool:
    # bitsandbytes, cuBLAS and the CPU allocator say it in words only
    words = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in str(error) for word in words)
