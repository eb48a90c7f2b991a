"""Batches for the regressor, the same ones wherever the vectors wait.

Shapes: M pairs of one part, P = M rounded up to whole batches, B batch size, U distinct antigens, D width.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from train.attention_pooling import Residues, Side
from train.prepared import Held, Prepared
from train.twin import Twin

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
    antibody_residues: Residues | None = None
    """Given where residues have vectors; `antibody_BD` is then the mean of each distinct antibody, [U, D]."""
    antigen_residues: Residues | None = None
    """Likewise."""

    @property
    def inputs(self) -> tuple[Side, Side, torch.Tensor | None]:
        """What the network reads of antibodies, antigens, and which pair has which antigen."""
        antibody = self.antibody_BD if self.antibody_residues is None else self.antibody_residues
        antigen = self.antigen_UD if self.antigen_residues is None else self.antigen_residues
        return antibody, antigen, self.which_BU


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
        slots = [_Slot(self._sides, len(columns), self._copies) for _ in range(_SLOTS)]
        with ThreadPoolExecutor(1, "loader") as thread:  # closing the iterator ends the thread
            ahead: Future[_Slot] | None = None
            for number in range(len(parts) + 1):
                ready, ahead = ahead, None
                if number < len(parts):
                    slot, part = slots[number % _SLOTS], parts[number]
                    slot.release()
                    ahead = thread.submit(slot.fill, row_P2[part], [column[part] for column in columns])
                if ready is not None:
                    antibodies, antigens, *labels = ready.result().handed()
                    yield self._batch(antibodies, antigens, *labels)

    def _batch(self, antibody: Side, antigen: Side, *labels: torch.Tensor) -> Batch:
        target_B, weight_B, *rest = labels
        bound_B = None if self._pairs.side_M is None else rest.pop(0)
        antigen_B = rest.pop() if self._name_antigens else None
        side_BD = _vectors(antigen)
        antigen_UD, which_BU = (side_BD, None) if self._antigen_UD is None else (self._antigen_UD, side_BD)
        return Batch(
            _vectors(antibody),
            antigen_UD,
            which_BU,
            target_B,
            weight_B,
            bound_B,
            antigen_B,
            antibody if isinstance(antibody, Residues) else None,
            antigen if isinstance(antigen, Residues) else None,
        )


def _vectors(side: Side) -> torch.Tensor:
    return side.mean_UK if isinstance(side, Residues) else side


class _Slot:
    """Memory of one batch, used again and again; on CUDA a pinned set and a device set."""

    def __init__(self, sides: tuple[Prepared, Prepared], columns: int, copies: torch.cuda.Stream | None) -> None:
        self._copies = copies
        self._sides = [side.buffer(copies) for side in sides]
        self._columns = [Twin((), torch.float32, copies) for _ in range(columns)]
        if copies is not None:
            self._copied = torch.cuda.Event()
            self._released = torch.cuda.Event()

    def release(self) -> None:
        """Mark, on the consumer's stream, that all use of this slot has been enqueued."""
        if self._copies is not None:
            self._released.record(torch.cuda.current_stream(self._copies.device))

    def fill(self, row_B2: Rows, columns: list[Column]) -> "_Slot":
        """Gather pairs into the host buffers and start their copy to the device; runs in the thread."""
        if self._copies is not None:
            self._copied.synchronize()
        for side, row_B in zip(self._sides, row_B2.T.copy(), strict=True):
            side.fill(row_B)
        for twin, values_B in zip(self._columns, columns, strict=True):
            twin.take(len(values_B)).copy_(torch.from_numpy(values_B))
        if self._copies is not None:
            with torch.cuda.stream(self._copies):
                self._copies.wait_event(self._released)
                for each in (*self._sides, *self._columns):
                    each.copy()
                self._copied.record(self._copies)
        return self

    def handed(self) -> tuple[Side, Side, *tuple[torch.Tensor, ...]]:
        """Hand the batch out; the consumer's stream waits for the copy and prepares, the host does not wait."""
        if self._copies is not None:
            torch.cuda.current_stream(self._copies.device).wait_event(self._copied)
        antibody, antigen = (side.finish() for side in self._sides)
        return antibody, antigen, *(twin.rows for twin in self._columns)
