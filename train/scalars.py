"""The metrics of each epoch as TensorBoard scalars, in the run's folder, where they are asked for."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from embed.store import disk
from train.errors import TrainError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Line = Mapping[str, float | None]

_EVENTS = "events.out.tfevents.*"
_NOT_SCALARS = ("epoch", "step")


def refuse_without_tensorboard(*, asked: bool) -> None:
    """Find out before anything is trained.

    Raises:
        TrainError: Scalars are asked for and TensorBoard is not installed.
    """
    if asked and find_spec("tensorboard") is None:
        raise TrainError(
            "train.tensorboard = true needs TensorBoard, which is not installed: pip install 'bindcache[tensorboard]'."
        )


class Scalars:
    """Writes one point a metric and epoch, over the optimizer steps; a context manager."""

    def __init__(self, folder: Path, history: Sequence[Line], *, asked: bool) -> None:
        """Begin with the epochs that were trained before, in the place of what a killed process wrote.

        Args:
            folder: For TensorBoard's event files.
            history: Lines of the epochs before.
            asked: Whether anything is written.
        """
        self._writer: SummaryWriter | None = None
        if asked:
            from torch.utils import tensorboard

            for old in folder.glob(_EVENTS):
                disk.unlink(old)
            self._writer = tensorboard.SummaryWriter(str(folder))
        for line in history:
            self.add(line)

    def add(self, line: Line) -> None:
        """Write the metrics of an epoch; those that are undefined are left out."""
        if self._writer is None:
            return
        for name, value in line.items():
            if name not in _NOT_SCALARS and value is not None:
                self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._writer is not None:
            self._writer.close()
