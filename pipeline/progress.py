"""How far a stage is: a bar on a terminal, a rare line in a log."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 79
_BAR_SECONDS = 0.1
_LINE_SECONDS = 30.0


class Progress:
    """Shows `(phase, done, total)` on a stream; a context manager that leaves the line behind finished."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._phase = ""
        self._started = self._shown = 0.0
        self._first = 0
        self._line_open = False

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note that `done` of `total` are done in this phase, and show it when it is time to."""
        now = self._clock()
        if phase != self._phase:
            self._finish_line()
            # Work done before this process began says nothing about its pace.
            self._phase, self._started, self._first = phase, now, done
            self._shown = -_BAR_SECONDS if self._terminal else now
        if self._terminal and (now - self._shown >= _BAR_SECONDS or done >= total):
            self._shown, self._line_open = now, True
            self._stream.write("\r" + _bar(phase, done, total, self._pace(done, now)).ljust(_WIDTH))
            self._stream.flush()
        elif not self._terminal and now - self._shown >= _LINE_SECONDS:
            self._shown = now
            print(_line(phase, done, total, self._pace(done, now)), file=self._stream, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *raised: object) -> None:
        self._finish_line()

    def _pace(self, done: int, now: float) -> float:
        return (done - self._first) / max(now - self._started, 1e-9) if done > self._first else 0.0

    def _finish_line(self) -> None:
        if self._line_open:
            self._stream.write("\n")
            self._stream.flush()
            self._line_open = False


def _bar(phase: str, done: int, total: int, pace: float) -> str:
    text = _line(phase, done, total, pace)
    room = _WIDTH - len(text) - 3
    if room < 10:
        return text[:_WIDTH]
    filled = round(room * _share(done, total))
    return f"{text} [{'#' * filled}{'.' * (room - filled)}]"


def _line(phase: str, done: int, total: int, pace: float) -> str:
    left = f", {_duration((total - done) / pace)} left" if pace and done < total else ""
    rate = f", {_number(pace)}/s" if pace else ""
    return f"{phase} {_share(done, total):4.0%} of {total:,}{rate}{left}"


def _share(done: int, total: int) -> float:
    return min(done / total, 1.0) if total else 1.0


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
