"""Batches for the regressor, the same ones wherever the vectors wait.

Shapes: M pairs of one part, P = M rounded up to whole batches, B batch size, U distinct antigens, D width.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from train.prepared import Held, Prepared

_SLOTS = 3  # one being filled, one handed out, one that was handed out before it

Rows = npt.NDArray[np.int64]
Column = npt.NDArray[np.float32]


def epoch_order(seed: int, epoch: int, rows: int) -> Rows:
    """Shuffle `rows` row numbers; a function of the three arguments alone."""
    philox = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    return np.random.Generator(philox).permutation(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The pairs of one part and the vectors they point to."""

    row_M2: Rows
    """Row of the antibody and row of the antigen."""
    target_M: npt.NDArray[np.float32]
    antibodies: Prepared
    antigens: Prepared
    side_M: npt.NDArray[np.int8] | None = None
    """0 measured, 1 at least and -1 at most the target; None where all are measured."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Exactly `batch_size` pairs on the device; rows that pad the last batch weigh 0, others 1.

    Vectors have the dtype they were prepared in, the rest is float32.
    """

    antibody_BD: torch.Tensor
    antigen_UD: torch.Tensor
    """The antigen of each pair (U = B), or where `which_BU` is given all antigens of the part."""
    which_BU: torch.Tensor | None
    """1 where the pair has the antigen, 0 elsewhere."""
    target_B: torch.Tensor
    weight_B: torch.Tensor
    side_B: torch.Tensor | None = None
    """0 measured, 1 at least and -1 at most the target; None where all pairs of the part are measured."""
    antigen_B: torch.Tensor | None = None
    """Number of each pair's antigen; given where it is asked for."""


class Loader:
    """Gathers the batches of one part.

    A batch is valid until the next but one is asked for; then its memory is used again.
    """

    def __init__(
        self, pairs: Pairs, batch_size: int, *, antigens_apart: bool = False, name_antigens: bool = False
    ) -> None:
        """Prepare to load.

        Args:
            pairs: What to load; batches go to the device of its antibodies.
            batch_size: Rows of every batch.
            antigens_apart: Whether batches hold all antigens of the part once, for few antigens on the device.
            name_antigens: Whether batches say which antigen each pair has.
        """
        self._pairs = pairs
        self._batch_size = batch_size
        self._name_antigens = name_antigens
        self._device = pairs.antibodies.device
        self._copies = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._antigen_UD: torch.Tensor | None = None
        antigens = pairs.antigens
        if antigens_apart:
            assert isinstance(antigens, Held)
            self._antigen_UD = antigens.vector_UD
            one_UU = torch.eye(len(antigens), dtype=antigens.vector_UD.dtype)
            antigens = Held(one_UU.to(pairs.antibodies.home), self._device)
        self._sides = (pairs.antibodies, antigens)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return -(-len(self._pairs.row_M2) // self._batch_size)

    def epoch(self, order_M: Rows | None = None, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from number `start` on.

        Args:
            order_M: Order of the part's pairs, or None for the table's order.
            start: Batches to leave out, as after a resume.
        """
        order_M = np.arange(len(self._pairs.row_M2)) if order_M is None else order_M
        # The epoch's first pairs pad the last batch: finite values, and no shape that is new to a compiler.
        pair_P = np.resize(order_M, self.steps_per_epoch * self._batch_size)
        weight_P = (np.arange(len(pair_P)) < len(order_M)).astype(np.float32)
        parts = [self._part(step) for step in range(start, self.steps_per_epoch)]
        on_device = all(isinstance(side, Held) and side.home == self._device for side in self._sides)
        batches = self._from_device if on_device else self._from_host
        row_P2 = self._pairs.row_M2[pair_P]
        columns = [self._pairs.target_M[pair_P], weight_P]
        if self._pairs.side_M is not None:
            columns.append(self._pairs.side_M[pair_P].astype(np.float32))
        if self._name_antigens:
            columns.append(row_P2[:, 1].astype(np.float32))
        return batches(row_P2, columns, parts)

    def _part(self, step: int) -> slice:
        return slice(step * self._batch_size, (step + 1) * self._batch_size)

    def _from_device(self, row_P2: Rows, columns: list[Column], parts: list[slice]) -> Iterator[Batch]:
        antibody_UD, side_UD = (side.vector_UD for side in self._sides if isinstance(side, Held))
        antibody_P, antigen_P, *on_device = (
            torch.from_numpy(column).to(self._device) for column in (*row_P2.T.copy(), *columns)
        )
        for part in parts:
            antibody_BD = antibody_UD.index_select(0, antibody_P[part])
            labels = [column[part] for column in on_device]
            yield self._batch(antibody_BD, side_UD.index_select(0, antigen_P[part]), *labels)

    def _from_host(self, row_P2: Rows, columns: list[Column], parts: list[slice]) -> Iterator[Batch]:
        slots = [_Slot(self._batch_size, self._sides, len(columns), self._device, self._copies) for _ in range(_SLOTS)]
        with ThreadPoolExecutor(1, "loader") as thread:  # closing the iterator ends the thread
            ahead: Future[_Slot] | None = None
            for number in range(len(parts) + 1):
                ready, ahead = ahead, None
                if number < len(parts):
                    slot, part = slots[number % _SLOTS], parts[number]
                    slot.release()
                    ahead = thread.submit(slot.fill, row_P2[part], [column[part] for column in columns])
                if ready is not None:
                    yield self._batch(*ready.result().tensors())

    def _batch(
        self,
        antibody_BD: torch.Tensor,
        side_BD: torch.Tensor,
        target_B: torch.Tensor,
        weight_B: torch.Tensor,
        *more: torch.Tensor,
    ) -> Batch:
        rest = list(more)
        bound_B = None if self._pairs.side_M is None else rest.pop(0)
        antigen_B = rest.pop() if self._name_antigens else None
        antigen_UD, which_BU = (side_BD, None) if self._antigen_UD is None else (self._antigen_UD, side_BD)
        return Batch(antibody_BD, antigen_UD, which_BU, target_B, weight_B, bound_B, antigen_B)


class _Slot:
    """Buffers of one batch, used again and again; on CUDA a pinned set and a device set."""

    def __init__(
        self,
        rows: int,
        sides: tuple[Prepared, Prepared],
        columns: int,
        device: torch.device,
        copies: torch.cuda.Stream | None,
    ) -> None:
        kinds = [((rows, side.buffer_dim), side.buffer_dtype) for side in sides] + [((rows,), torch.float32)] * columns
        self._sides = sides
        self._copies = copies
        self._host = [torch.empty(shape, dtype=dtype, pin_memory=copies is not None) for shape, dtype in kinds]
        self._handed = self._host
        if copies is not None:
            self._copied = torch.cuda.Event()
            self._released = torch.cuda.Event()
            with torch.cuda.stream(copies):  # their memory stays with the stream that writes it
                self._handed = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in kinds]

    def release(self) -> None:
        """Mark, on the consumer's stream, that all use of this slot has been enqueued."""
        if self._copies is not None:
            self._released.record(torch.cuda.current_stream(self._copies.device))

    def fill(self, row_B2: Rows, columns: list[Column]) -> "_Slot":
        """Gather pairs into the host buffers and start their copy to the device; runs in the thread."""
        if self._copies is not None:
            self._copied.synchronize()
        for side, row_B, buffer_BD in zip(self._sides, row_B2.T.copy(), self._host, strict=False):
            side.fill(row_B, buffer_BD)
        for values_B, buffer_B in zip(columns, self._host[2:], strict=True):
            buffer_B.copy_(torch.from_numpy(values_B))
        if self._copies is not None:
            with torch.cuda.stream(self._copies):
                self._copies.wait_event(self._released)
                for source, target in zip(self._host, self._handed, strict=True):
                    target.copy_(source, non_blocking=True)
                self._copied.record(self._copies)
        return self

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Hand the batch out; the consumer's stream waits for the copy and prepares, the host does not wait."""
        if self._copies is not None:
            torch.cuda.current_stream(self._copies.device).wait_event(self._copied)
        antibody_BD, side_BD, *columns = self._handed
        antibodies, side = self._sides
        return antibodies.finish(antibody_BD), side.finish(side_BD), *columns
