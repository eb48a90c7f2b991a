"""Checkpoints: the whole state of a training, written while it goes on, each file whole or absent.

A file is `torch.save` output, then 16 bytes of mark, then the SHA-256 of what precedes the mark.
"""

import hashlib
import io
import struct
import time
import warnings
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from pickle import UnpicklingError
from types import TracebackType
from typing import IO, Any, cast

import torch

from embed.store import disk
from embed.store.durable import Sink, explained, replace_file
from embed.store.plain import NotPlainError, open_plain
from train.errors import TrainError
from train.rundir import RunDir
from train.weights import weights_image

State = dict[str, Any]
"""Nested dicts and lists of tensors and plain values, with at least `model`, `step` and `best_step`."""

_MARK = b"bindcache-sha256"
_SNAPSHOTS = 2  # one being written, one waiting
_NO_STATE = (
    *(struct.error, RuntimeError, ValueError, TypeError, AttributeError),
    *(LookupError, ArithmeticError, AssertionError, EOFError),
)
"""In these ways torch can fail on bytes that are no checkpoint."""
_TRAILER = len(_MARK) + hashlib.sha256().digest_size


class DamagedCheckpointError(TrainError):
    """The bytes of a checkpoint are not those that were written."""


def write_state(state: State, file: Sink) -> None:
    """Write a state and its digest, piece by piece: a copy of the whole would hold up Python, and the training."""
    hashing = _Hashing(file)
    torch.save(state, cast("IO[bytes]", hashing))
    file.write(_MARK + hashing.digest.digest())


class _Hashing:
    """A file that is written through and digested."""

    def __init__(self, file: Sink) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        pass


def read_checkpoint(path: Path) -> State:
    """Read a checkpoint onto the CPU: the digest is checked, then tensors and plain values alone unpickled.

    Raises:
        DamagedCheckpointError: The file is cut short or altered, is no plain file, or holds no state of a training.
        TrainError: It holds more than tensors and plain values, under a right digest.
    """
    try:
        with open_plain(path) as file:
            data = memoryview(file.read())
    except NotPlainError as error:
        raise DamagedCheckpointError(f"{path} is no checkpoint ({error.strerror}).") from None
    body, trailer = data[:-_TRAILER], data[-_TRAILER:]
    if len(data) <= _TRAILER or bytes(trailer) != _MARK + hashlib.sha256(body).digest():
        raise DamagedCheckpointError(f"{path} is damaged: its bytes do not match its SHA-256.")
    try:
        with warnings.catch_warnings(action="ignore"):  # of a strange pickle protocol, where it goes on to fail
            state: State = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        whole = {"model", "step", "best_step"} <= state.keys()
    except UnpicklingError:
        raise TrainError(
            f"{path} holds more than tensors and plain values, and was not loaded: no bindcache wrote it. "
            "Move it away, and --resume goes on from the one before."
        ) from None
    except _NO_STATE as error:
        raise DamagedCheckpointError(f"{path} holds no state of a training ({type(error).__name__}).") from error
    if not whole:
        raise DamagedCheckpointError(f"{path} holds no state of a training.")
    return state


def newest_state(run: RunDir) -> State | None:
    """Read the newest checkpoint that is whole and whose best checkpoint is whole; newer ones become `*.damaged`.

    Raises:
        TrainError: There are checkpoints, and none of them serves.
    """
    paths = sorted(run.checkpoints.glob("step-*.pt"), reverse=True)
    for path in paths:
        try:
            state = read_checkpoint(path)
            read_best(run, state)
        except (DamagedCheckpointError, FileNotFoundError):
            continue
        with explained(run.checkpoints, 0):
            for newer in paths[: paths.index(path)]:
                disk.rename(newer, newer.with_suffix(".damaged"))
        return state
    if paths:
        raise TrainError(f"All checkpoints in {run.checkpoints} are damaged; train anew into another folder.")
    return None


def read_best(run: RunDir, state: State) -> State:
    """Read the checkpoint of the best epoch so far; the state itself before the first epoch has ended."""
    best = int(state["best_step"])
    return state if best in (0, state["step"]) else read_checkpoint(run.checkpoint(best))


def prune(run: RunDir, *, keep: int, best_step: int) -> None:
    """Remove all checkpoints but the newest `keep` and the best.

    Raises:
        OSError: The disk fails.
    """
    paths = sorted(run.checkpoints.glob("step-*.pt"))
    with explained(run.checkpoints, 0):  # where the system copies on write, a full disk cannot remove either
        for path in paths[:-keep]:
            if path != run.checkpoint(best_step):
                disk.unlink(path)


def snapshot(state: Any, into: Any = None) -> Any:  # noqa: ANN401  # any nesting of dicts, lists and values
    """Copy all tensors to host memory; CUDA copies queue in the stream, into pinned memory.

    Args:
        state: What to copy.
        into: An earlier snapshot, whose memory is used again where it fits; it is lost.
    """
    if isinstance(state, dict):
        named = into if isinstance(into, dict) else {}
        return {key: snapshot(value, named.get(key)) for key, value in state.items()}
    if isinstance(state, list | tuple):
        listed = into if isinstance(into, list | tuple) else ()
        return type(state)(snapshot(value, old) for value, old in zip_longest(state, listed[: len(state)]))
    if not isinstance(state, torch.Tensor):
        return state
    on_device = state.device.type != "cpu"
    host = into if isinstance(into, torch.Tensor) and (into.shape, into.dtype) == (state.shape, state.dtype) else None
    host = torch.empty(state.shape, dtype=state.dtype, pin_memory=on_device) if host is None else host
    return host.copy_(state.detach(), non_blocking=on_device)


def _bytes_of(state: Any) -> int:  # noqa: ANN401  # any nesting of dicts, lists and values
    """Count the bytes of all tensors."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(_bytes_of, inner))


class Checkpointer:
    """Saves states of one run, in order, from one thread beside the training, which is ahead by two at most."""

    def __init__(self, run: RunDir, *, keep: int, facts: Mapping[str, object]) -> None:
        """Keep the newest `keep` checkpoints and the best; `facts` go into the best weights' file."""
        self._run = run
        self._keep = keep
        self._facts = facts
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: deque[tuple[Future[None], State]] = deque()
        self._spare: list[State] = []
        self.saves = 0
        self.stall_seconds = 0.0
        """How long saving held the training up, all in all."""
        self.longest_stall_seconds = 0.0

    def reserve(self, state: State) -> None:
        """Take the memory for snapshots of states like this one, so that the first saves need not."""
        self._spare = [snapshot(state) for _ in range(_SNAPSHOTS)]

    def save(self, state: State) -> None:
        """Take a snapshot and hand it to the writer; waits where two snapshots are not written yet.

        Raises:
            OSError: An earlier save could not be written.
        """
        start = time.perf_counter()
        while self._pending and (len(self._pending) == _SNAPSHOTS or self._pending[0][0].done()):
            self._finish_oldest()
        copied = snapshot(state, self._spare.pop() if self._spare else None)
        ready = None
        if torch.cuda.is_available():
            ready = torch.cuda.Event()
            ready.record()
        self._pending.append((self._thread.submit(self._write, copied, ready), copied))
        stalled = time.perf_counter() - start
        self.saves += 1
        self.stall_seconds += stalled
        self.longest_stall_seconds = max(self.longest_stall_seconds, stalled)

    def wait(self) -> None:
        """Return when everything saved is on the disk.

        Raises:
            OSError: The disk is full or fails.
        """
        while self._pending:
            self._finish_oldest()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:
            self.wait()

    def _finish_oldest(self) -> None:
        future, copied = self._pending.popleft()
        self._spare.append(copied)
        future.result()

    def _write(self, state: State, ready: "torch.cuda.Event | None") -> None:
        if ready is not None:
            ready.synchronize()
        step, best_step = int(state["step"]), int(state["best_step"])
        replace_file(self._run.checkpoint(step), lambda file: write_state(state, file), size=_bytes_of(state))
        if step == best_step > 0:
            replace_file(self._run.weights, weights_image(state["model"], self._facts))
        prune(self._run, keep=self._keep, best_step=best_step)
