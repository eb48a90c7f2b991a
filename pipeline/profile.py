"""`--profile FILE`: what the machine does in a few steady steps of a stage, as a Chrome trace.

Each phase has a window of its own, after its first steps, so that an hour's run leaves a small file too.
"""

import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from torch.profiler import profile

Progress = Callable[[str, int, int], None]
"""Told a phase, and how much of how much of it is done; the stages call it after every batch or step."""

SKIPPED = 2
"""Steps of a phase that are left out: they load, allocate and choose."""
STEPS = 20
SECONDS = 10.0
"""A window closes after so many steps or seconds, whichever comes first."""


@contextmanager
def profiled(file: Path | None, *, idle: str) -> Iterator[Callable[[Progress], Progress]]:
    """Record a stage through its progress, and write the trace when the stage is left in order.

    Yields a function that puts the recorder before a progress callback, which is told everything as before.

    Args:
        file: A `.json` or `.json.gz` file; None records nothing and never imports torch.
        idle: What to say when the stage did nothing.

    Raises:
        ConfigError: The file's folder is missing, or the file is a folder.
    """
    if file is None:
        yield lambda progress: progress
        return
    if not file.parent.is_dir():
        raise ConfigError(f"--profile {file}: there is no folder {file.parent}; make it, or name another.")
    if file.is_dir():
        raise ConfigError(f"--profile {file} is a folder; name a file in it.")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its start and stop are no news
    recorder = _Recorder()
    try:
        yield recorder.before
    finally:
        recorder.close()
    click.echo(_write(file, recorder, idle), err=True)


def _write(file: Path, recorder: "_Recorder", idle: str) -> str:
    """Write what was recorded, and say so; or say why there is nothing."""
    if not recorder.calls:
        return f"--profile {file} was not written: {idle}"
    if not recorder.trace:
        return f"--profile {file} was not written: the work was over within its first {SKIPPED} steps; give it more."
    from embed.store.durable import replace_file

    content = json.dumps(recorder.trace).encode()
    replace_file(file, gzip.compress(content) if file.suffix == ".gz" else content)
    return f"Wrote {file}: {recorder.steps} steps; open it in https://ui.perfetto.dev or chrome://tracing."


class _Recorder:
    """A progress callback that opens and closes windows of recording."""

    def __init__(self) -> None:
        self._progress: Progress = lambda phase, done, total: None
        self._phase = ""
        self._calls_of_phase = self._steps_of_window = 0
        self._open: profile | None = None
        self._opened = 0.0
        self.calls = self.steps = 0
        self.trace: dict[str, Any] = {}
        """Chrome's format; the events of all windows, which share one clock."""

    def before(self, progress: Progress) -> Progress:
        """Hand everything on to another callback."""
        self._progress = progress
        return self

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note of a step that is over."""
        if phase != self._phase:
            self.close()
            self._phase, self._calls_of_phase = phase, 0
        self.calls += 1
        self._calls_of_phase += 1
        if self._open is not None:
            self._steps_of_window += 1
            if self._steps_of_window == STEPS or time.monotonic() - self._opened >= SECONDS or done >= total:
                self.close()
            else:
                self._open.step()
        elif self._calls_of_phase == SKIPPED and done < total:
            self._start()
        self._progress(phase, done, total)

    def close(self) -> None:
        """End the window that is open, if one is, and keep its events."""
        if self._open is None:
            return
        window, self._open = self._open, None
        window.stop()
        if not self._steps_of_window:
            return
        with tempfile.TemporaryDirectory(prefix="bindcache-") as folder:
            path = Path(folder) / "window.json"
            window.export_chrome_trace(str(path))
            trace = json.loads(path.read_bytes())
        events = self.trace.get("traceEvents", [])
        self.trace = {**trace, "traceEvents": events + trace["traceEvents"]}
        self.steps += self._steps_of_window

    def _start(self) -> None:
        import torch
        from torch.profiler import ProfilerAction, ProfilerActivity, profile

        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        # A schedule, though a constant one, marks the steps in the trace.
        self._open = profile(activities=activities, schedule=lambda step: ProfilerAction.RECORD)
        self._open.start()
        self._opened, self._steps_of_window = time.monotonic(), 0
