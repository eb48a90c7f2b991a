"""Prepared vectors of the distinct sequences of one part: held in memory, or made from the shards when asked for.

Shape suffixes: U distinct sequences of the part, B rows asked for, D width; `dim` is that of prepared vectors,
`buffer_dim` that of what `fill` reads.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from embed.store.durable import Sink, replace_file
from train.dataset import Matrix, blocks
from train.placement import Placement
from train.regressor import Prepare
from train.residue_scale import ResidueScale
from train.streamed import Streamed
from train.twin import Twin

Index = npt.NDArray[np.int64]


class Mapped:
    """Vectors that stay in the shards and are prepared on the device each time they are read."""

    def __init__(self, matrix: Matrix, row_U: Index, prepare: Prepare, dtype: torch.dtype) -> None:
        """Stand for rows of a matrix, prepared in float32, then rounded to `dtype`."""
        self._matrix = matrix
        self._row_U = row_U
        self._prepare = prepare
        self.dtype = dtype
        self.dim = prepare.axes
        self.buffer_dim = matrix.dim
        self.buffer_dtype = torch.float32
        self.home = torch.device("cpu")
        self.device = prepare.mean_D.device

    def __len__(self) -> int:
        return len(self._row_U)

    @property
    def nbytes(self) -> int:
        """Bytes that holding them takes."""
        return len(self) * self.dim * self.dtype.itemsize

    def cut(self, index_B: Index) -> Iterator[Index]:
        """Cut rows into stretches that take little memory."""
        return blocks(index_B, self.buffer_dim)

    def buffer(self, copies: torch.cuda.Stream | None) -> "RowBuffer":
        """Make memory for the batches of a loader."""
        return RowBuffer(self, copies)

    def fill(self, index_B: Index, buffer_BD: Tensor) -> None:
        """Read raw vectors into host memory."""
        self._matrix.gather(self._row_U[index_B], buffer_BD.numpy())

    def finish(self, buffer_BD: Tensor) -> Tensor:
        """Prepare what `fill` read, once it is on the device."""
        prepared_BD: Tensor = self._prepare(buffer_BD)
        return prepared_BD.to(self.dtype)

    def rows(self, index_B: Index) -> Tensor:
        """Read and prepare vectors, [B, D] on the device."""
        return self.finish(torch.from_numpy(self._matrix.gather(self._row_U[index_B])).to(self.device))


class Held:
    """Vectors that are prepared already, on the device or in host memory."""

    def __init__(self, vector_UD: Tensor, device: torch.device) -> None:
        """Hold vectors that serve `device`."""
        self.vector_UD = vector_UD
        self.dim = self.buffer_dim = vector_UD.shape[1]
        self.buffer_dtype = vector_UD.dtype
        self.home = vector_UD.device
        self.device = device

    def __len__(self) -> int:
        return len(self.vector_UD)

    def cut(self, index_B: Index) -> Iterator[Index]:
        """Cut rows into stretches that take little memory."""
        return blocks(index_B, self.buffer_dim)

    def buffer(self, copies: torch.cuda.Stream | None) -> "RowBuffer":
        """Make memory for the batches of a loader."""
        return RowBuffer(self, copies)

    def fill(self, index_B: Index, buffer_BD: Tensor) -> None:
        """Copy vectors within host memory."""
        torch.index_select(self.vector_UD, 0, torch.from_numpy(index_B), out=buffer_BD)

    def finish(self, buffer_BD: Tensor) -> Tensor:
        """Return what `fill` copied."""
        return buffer_BD

    def rows(self, index_B: Index) -> Tensor:
        """Copy vectors to the device, [B, D]."""
        index = torch.from_numpy(index_B).to(self.home)
        return self.vector_UD.index_select(0, index).to(self.device)


class RowBuffer:
    """Memory for one vector for each row of a batch."""

    def __init__(self, side: Mapped | Held, copies: torch.cuda.Stream | None) -> None:
        """Make memory on the host and, with a stream of copies, on the device."""
        self._side = side
        self._twin = Twin((side.buffer_dim,), side.buffer_dtype, copies)

    def fill(self, index_B: Index) -> None:
        """Gather rows into host memory."""
        self._side.fill(index_B, self._twin.take(len(index_B)))

    def copy(self) -> None:
        """Start the copy to the device, on the current stream."""
        self._twin.copy()

    def finish(self) -> Tensor:
        """Prepare what was gathered, once it is on the device."""
        return self._side.finish(self._twin.rows)


Prepared = Mapped | Held | Streamed


def unplaced(
    matrix: Matrix, row_U: Index, prepare: Prepare, scale: ResidueScale | None, dtype: torch.dtype
) -> Mapped | Streamed:
    """Leave rows of a matrix in the shards; with a scale, those of residues are read too."""
    if scale is None:
        return Mapped(matrix, row_U, prepare, dtype)
    return Streamed(matrix, row_U, prepare, scale, dtype)


def place(
    mapped: Mapped,
    placement: Placement,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> Mapped | Held:
    """Prepare all vectors once and hold them where `placement` says, or leave them mapped.

    Args:
        mapped: The vectors.
        placement: `device`, `pinned` (host memory) or `mapped`.
        progress: Told ("preparing", vectors done, of how many).
    """
    if placement == "mapped":
        return mapped
    where = mapped.device if placement == "device" else torch.device("cpu")
    held_UD = torch.empty(len(mapped), mapped.dim, dtype=mapped.dtype, device=where)
    for index_B in blocks(np.arange(len(mapped)), mapped.buffer_dim):
        held_UD[index_B[0] : index_B[-1] + 1].copy_(mapped.rows(index_B))
        progress("preparing", int(index_B[-1]) + 1, len(mapped))
    return Held(held_UD, mapped.device)


def map_file(
    mapped: Mapped, path: Path, progress: Callable[[str, int, int], None] = lambda phase, done, total: None
) -> Held:
    """Prepare all vectors once into a file that every process of the machine maps, or map the one that is there.

    Args:
        mapped: The vectors, for the CPU.
        path: The file; rows end to end, in the vectors' dtype.
        progress: Told ("preparing", vectors done, of how many).
    """
    if len(mapped) == 0:
        return Held(torch.empty(0, mapped.dim, dtype=mapped.dtype), mapped.device)
    if not path.exists():  # two processes may make it at once; either serves
        replace_file(path, lambda file: _write(file, mapped, progress), size=mapped.nbytes)
    plain = {torch.bfloat16: np.int16}.get(mapped.dtype, np.float32)  # numpy knows no bf16
    numbers = np.memmap(path, plain, "c", shape=(len(mapped), mapped.dim))
    return Held(torch.from_numpy(numbers).view(mapped.dtype), mapped.device)


def _write(file: Sink, mapped: Mapped, progress: Callable[[str, int, int], None]) -> None:
    for index_B in blocks(np.arange(len(mapped)), mapped.buffer_dim):
        prepared_BD = mapped.rows(index_B)
        file.write(prepared_BD.view(torch.uint8).numpy().tobytes())
        progress("preparing", int(index_B[-1]) + 1, len(mapped))
