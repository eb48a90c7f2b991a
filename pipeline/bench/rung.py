"""One rung of the ladder: the naive loop with the first few optimisations on, timed on a sample of its steps.

Frozen encoders give a sequence the same vector in every epoch. So steps are timed with the encoders in them, and the
score is that of the same loop on vectors which the same encoders made once: no epoch has to be waited for.

Shapes: B pairs at once, M validation pairs, N distinct sequences, D width of a vector.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from embed.config import EmbedConfig
from embed.encoders.loading import choose_device
from embed.pairs import PairTable
from pipeline.bench.ladder import BATCH
from pipeline.bench.loop import Loop
from pipeline.bench.machine import machine_of
from pipeline.bench.naive import Reader, kept_reader, open_reader
from pipeline.bench.optimisations import Optimisation
from pipeline.bench.standins import pageable_memory
from pipeline.fidelity_sample import ROLES, sequences_of
from train.checkpoint import Checkpointer
from train.config import TrainConfig
from train.result import peak_memory_bytes
from train.rundir import RunDir

_TRAIN_SECONDS, _VALID_SECONDS, _SAVES = 4.0, 2.0, 3
"""How long batches are timed, at least one of them; and how many saves."""


class _Saver(NamedTuple):
    save: Callable[[dict[str, Any]], None]
    settle: Callable[[], None]
    """Returns when everything saved is on the disk."""


def run_rung(
    embed: EmbedConfig, train: TrainConfig, table: PairTable, on: Collection[Optimisation]
) -> dict[str, object]:
    """Time the loop with these optimisations on, and score it after its epochs."""
    device = torch.device(choose_device(embed.device))
    torch.backends.cudnn.benchmark = Optimisation.CUDNN in on
    with ExitStack() as stack:
        if Optimisation.PINNED not in on:
            stack.enter_context(pageable_memory())
        opened = [open_reader(embed, table, role, on, device) for role in ROLES]
        readers = [reader for reader, _ in opened]
        loop = Loop(train, table, readers, on, device)
        pace = _pace(loop, on, stack)
        peak = peak_memory_bytes()
        kept = [
            kept_reader(_read_all(reader, len(sequences_of(table, role))))
            for reader, role in zip(readers, ROLES, strict=True)
        ]
        score = Loop(train, table, kept, on, device).learn()
    models = [loop.network, *(model for _, models in opened for model in models)]
    return {**pace, "peak_memory_bytes": peak, "spearman": score, "machine": machine_of(device, models)}


def _pace(loop: Loop, on: Collection[Optimisation], stack: ExitStack) -> dict[str, float]:
    """Time some batches, some validation and some saves."""
    next(iter(loop.train_batches()))  # loads, allocates and compiles
    batch_seconds, batches = _time(loop.train_batches(), _TRAIN_SECONDS)
    next(iter(loop.valid_batches()))
    valid_seconds, valid_batches = _time(loop.valid_batches(), _VALID_SECONDS)
    pairs = min(valid_batches * loop.valid_batch, len(loop.valid_rows))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bindcache-")))
    saver = _saver(folder, on, stack)
    return {
        "batch_seconds": batch_seconds / batches,
        "batches": batches,
        "valid_pair_seconds": valid_seconds / pairs,
        "save_seconds": float(np.median([_stall(loop, saver) for _ in range(_SAVES)])),
    }


def _time(batches: Iterable[object], limit: float) -> tuple[float, int]:
    """Go through batches until the time is up or there are no more; returns seconds and batches."""
    start, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
        if time.perf_counter() - start >= limit:
            break
    return time.perf_counter() - start, count


def _stall(loop: Loop, saver: _Saver) -> float:
    """Tell how long a save holds the loop up, when the one before is done."""
    start = time.perf_counter()
    saver.save(loop.state())
    stall = time.perf_counter() - start
    saver.settle()
    return stall


def _saver(folder: Path, on: Collection[Optimisation], stack: ExitStack) -> _Saver:
    """Save as examples do, or by the product's checkpointer."""
    if Optimisation.ASYNC_SAVES not in on:
        return _Saver(lambda state: torch.save(state, folder / "checkpoint.pt"), lambda: None)
    run = RunDir(folder)
    run.checkpoints.mkdir()
    checkpointer = stack.enter_context(Checkpointer(run, keep=2, facts={}))
    return _Saver(checkpointer.save, checkpointer.wait)


def _read_all(reader: Reader, count: int) -> torch.Tensor:
    """Read every distinct sequence as the loop reads a batch."""
    return torch.cat([reader(np.arange(start, min(start + BATCH, count))) for start in range(0, count, BATCH)])
