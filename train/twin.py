"""Memory that a batch travels in: a tensor of the host and its copy on the device, used again and again."""

import torch
from torch import Tensor


class Twin:
    """Rows in host memory, pinned for CUDA, and their copy on the device; on the CPU both are one.

    It grows when more rows are asked for than ever before.
    """

    def __init__(self, width: tuple[int, ...], dtype: torch.dtype, copies: torch.cuda.Stream | None) -> None:
        """Begin with no rows.

        Args:
            width: Shape of one row.
            dtype: Of all numbers.
            copies: The stream that copies; None on the CPU.
        """
        self._width = width
        self._copies = copies
        self._host = self._device = torch.empty(0, *width, dtype=dtype)
        self._rows = 0

    def take(self, rows: int) -> Tensor:
        """Give so many rows of host memory to be written."""
        if rows > len(self._host):
            shape = (rows if not len(self._host) else max(rows, len(self._host) * 5 // 4), *self._width)
            dtype = self._host.dtype
            self._host = self._device = torch.empty(0, dtype=dtype)  # before the larger ones are taken
            self._host = self._device = torch.empty(shape, dtype=dtype, pin_memory=self._copies is not None)
            if self._copies is not None:
                with torch.cuda.stream(self._copies):  # their memory stays with the stream that writes it
                    self._device = torch.empty(shape, dtype=dtype, device=self._copies.device)
        self._rows = rows
        return self._host[:rows]

    def copy(self) -> None:
        """Start the copy to the device, on the current stream."""
        if self._copies is not None:
            self._device[: self._rows].copy_(self._host[: self._rows], non_blocking=True)

    @property
    def rows(self) -> Tensor:
        """The rows on the device, once the copy is there."""
        return self._device[: self._rows]
