"""Stopping on request: a signal sets a flag, the stage sees it between two batches and leaves in order."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

STOPPED = 75
"""Exit code of a run that a signal stopped and the same command goes on with (EX_TEMPFAIL)."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class StopFlag:
    """Says whether the process has been asked to stop; a context manager that listens while it is open.

    A second Ctrl-C does not wait: it raises KeyboardInterrupt.
    """

    def __init__(
        self, answer: str = "stopping after this batch", signals: tuple[signal.Signals, ...] = _SIGNALS
    ) -> None:
        """Take what to say when the process is asked to stop, and the signals that ask it."""
        self._answer = answer
        self._signals = signals
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """Exit code that tells the caller how the run was stopped."""
        return INTERRUPTED if self.received is signal.SIGINT else STOPPED

    def __enter__(self) -> "StopFlag":
        self._before = {number: signal.signal(number, self._receive) for number in self._signals}
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)
        again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        # Not print: a handler may interrupt a print, and buffered streams refuse to be entered twice.
        os.write(2, f"\n{signal.Signals(number).name}: {self._answer}{again}.\n".encode())


def leave_if(ctx: click.Context, stop: StopFlag, *, stopped: bool, way_on: str) -> None:
    """Leave a command that was stopped, with the way on and the exit code that says how."""
    if stopped:
        click.echo(f"Stopped; {way_on}.", err=True)
        ctx.exit(stop.exit_code)


@contextmanager
def interruptible() -> Iterator[StopFlag]:
    """Turn the Ctrl-C of a program that called us into an orderly stop, which ends in its KeyboardInterrupt.

    Signals reach the main thread alone; called from another one, nothing is listened to.
    """
    here = threading.current_thread() is threading.main_thread()
    with StopFlag(signals=(signal.SIGINT,) if here else ()) as stop:
        yield stop
    if stop():
        raise KeyboardInterrupt
