"""Batches for the regressor, the same ones wherever the vectors wait.

Shapes: M pairs of one part, P = M rounded up to whole batches, B batch size, D width of one vector.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from train.dataset import Dataset
from train.placement import Placement, available_host_bytes, choose_placement, free_device_bytes

_SLOTS = 3  # one being filled, one handed out, one that was handed out before it


def epoch_order(seed: int, epoch: int, rows: int) -> npt.NDArray[np.int64]:
    """Shuffle `rows` row numbers; a function of the three arguments alone."""
    philox = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    return np.random.Generator(philox).permutation(rows)


@dataclass(frozen=True, slots=True)
class Batch:
    """Exactly `batch_size` pairs on the device, float32; rows that pad the last batch weigh 0, others 1."""

    antibody_BD: torch.Tensor
    antigen_BD: torch.Tensor
    target_B: torch.Tensor
    weight_B: torch.Tensor


class Loader:
    """Gathers the batches of one part of a dataset.

    A batch is valid until the next but one is asked for; then its memory is used again.
    """

    def __init__(
        self,
        dataset: Dataset,
        index_M: npt.NDArray[np.int64],
        batch_size: int,
        device: torch.device,
        placement: Placement | Literal["auto"] = "auto",
    ) -> None:
        """Place the vectors.

        Args:
            dataset: Pairs and vectors; loaders of one dataset share its matrices.
            index_M: The pairs to load.
            batch_size: Rows of every batch.
            device: Where batches go.
            placement: Where vectors wait; `auto` takes the fastest that fits.
        """
        self._dataset = dataset
        self._index_M = index_M
        self._batch_size = batch_size
        self._device = device
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.placement: Placement = _place(dataset, device) if placement == "auto" else placement
        if self.placement == "pinned":
            dataset.antibodies.resident()
            dataset.antigens.resident()

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return -(-len(self._index_M) // self._batch_size)

    def epoch(self, order_M: npt.NDArray[np.int64] | None = None, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from number `start` on.

        Args:
            order_M: Order of the part's pairs, or None for the table's order.
            start: Batches to leave out, as after a resume.
        """
        order_M = np.arange(len(self._index_M)) if order_M is None else order_M
        # The epoch's first pairs pad the last batch: finite values, and no shape that is new to a compiler.
        row_P = np.resize(self._index_M[order_M], self.steps_per_epoch * self._batch_size)
        weight_P = (np.arange(len(row_P)) < len(order_M)).astype(np.float32)
        parts = [self._part(step) for step in range(start, self.steps_per_epoch)]
        batches = self._from_device if self.placement == "device" else self._from_host
        return batches(row_P, weight_P, parts)

    def _part(self, step: int) -> slice:
        return slice(step * self._batch_size, (step + 1) * self._batch_size)

    def _from_device(
        self, row_P: npt.NDArray[np.int64], weight_P: npt.NDArray[np.float32], parts: list[slice]
    ) -> Iterator[Batch]:
        data, device = self._dataset, self._device
        antibody_UD, antigen_UD = data.antibodies.on(device), data.antigens.on(device)
        antibody_P, antigen_P = torch.from_numpy(data.row_N2[row_P]).to(device).unbind(1)
        target_P = torch.from_numpy(data.target_N[row_P]).to(device)
        shade_P = torch.from_numpy(weight_P).to(device)
        for part in parts:
            yield Batch(
                antibody_UD.index_select(0, antibody_P[part]),
                antigen_UD.index_select(0, antigen_P[part]),
                target_P[part],
                shade_P[part],
            )

    def _from_host(
        self, row_P: npt.NDArray[np.int64], weight_P: npt.NDArray[np.float32], parts: list[slice]
    ) -> Iterator[Batch]:
        slots = [_Slot(self._batch_size, self._dataset, self._device, self._copies) for _ in range(_SLOTS)]
        with ThreadPoolExecutor(1, "loader") as thread:  # closing the iterator ends the thread
            ahead: Future[_Slot] | None = None
            for number in range(len(parts) + 1):
                ready, ahead = ahead, None
                if number < len(parts):
                    slot, part = slots[number % _SLOTS], parts[number]
                    slot.release()
                    ahead = thread.submit(slot.fill, row_P[part], weight_P[part])
                if ready is not None:
                    yield ready.result().batch()


class _Slot:
    """Buffers of one batch, used again and again; on CUDA a pinned set and a device set."""

    def __init__(self, rows: int, dataset: Dataset, device: torch.device, copies: torch.cuda.Stream | None) -> None:
        shapes = ((rows, dataset.antibodies.dim), (rows, dataset.antigens.dim), (rows,), (rows,))
        self._dataset = dataset
        self._copies = copies
        with torch.inference_mode(False):  # a validation loop must not mark them as its own
            self._host = [torch.empty(shape, pin_memory=copies is not None) for shape in shapes]
            self._handed = self._host
            if copies is not None:
                self._copied = torch.cuda.Event()
                self._released = torch.cuda.Event()
                with torch.cuda.stream(copies):  # their memory stays with the stream that writes it
                    self._handed = [torch.empty(shape, device=device) for shape in shapes]

    def release(self) -> None:
        """Mark, on the consumer's stream, that all use of this slot has been enqueued."""
        if self._copies is not None:
            self._released.record(torch.cuda.current_stream(self._copies.device))

    def fill(self, row_B: npt.NDArray[np.int64], weight_B: npt.NDArray[np.float32]) -> "_Slot":
        """Gather pairs into the host buffers and start their copy to the device; runs in the thread."""
        if self._copies is not None:
            self._copied.synchronize()
        antibody_BD, antigen_BD, target_B, shade_B = (buffer.numpy() for buffer in self._host)
        pair_B2 = self._dataset.row_N2[row_B]
        self._dataset.antibodies.gather(pair_B2[:, 0], antibody_BD)
        self._dataset.antigens.gather(pair_B2[:, 1], antigen_BD)
        target_B[:] = self._dataset.target_N[row_B]
        shade_B[:] = weight_B
        if self._copies is not None:
            with torch.cuda.stream(self._copies):
                self._copies.wait_event(self._released)
                for source, target in zip(self._host, self._handed, strict=True):
                    target.copy_(source, non_blocking=True)
                self._copied.record(self._copies)
        return self

    def batch(self) -> Batch:
        """Hand the filled buffers out; the consumer's stream waits for the copy, the host does not."""
        if self._copies is not None:
            torch.cuda.current_stream(self._copies.device).wait_event(self._copied)
        return Batch(*self._handed)


def _place(dataset: Dataset, device: torch.device) -> Placement:
    matrices = dataset.antibodies, dataset.antigens
    return choose_placement(
        device_bytes=sum(matrix.bytes_missing(device) for matrix in matrices),
        host_bytes=sum(matrix.bytes_missing(None) for matrix in matrices),
        free_device_bytes=free_device_bytes(device),
        available_host_bytes=available_host_bytes(),
        device_kind=device.type,
    )
