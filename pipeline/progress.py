"""How far a stage is: a bar on a terminal, a rare line in a log.

A phase of one step, such as compiling, has no share to show; it tells for how long it has been going on, which a clock
of its own sees to while the step keeps the stage from saying anything.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

READING = "reading the table"
"""The phase that every stage begins with."""

_WIDTH = 79
_BAR_SECONDS = 0.1
_LINE_SECONDS = 30.0
_TICK_SECONDS = 1.0


class Progress:
    """Shows `(phase, done, total)` on a stream; a context manager that leaves the line behind finished."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._phase = ""
        self._done = self._total = 0
        self._started = self._shown = 0.0
        self._first = 0
        self._line_open = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticking = threading.Thread(target=self._tick_on, name="progress", daemon=True)

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note that `done` of `total` are done in this phase, and show it when it is time to."""
        with self._lock:
            now = self._clock()
            if phase != self._phase:
                self._finish_line()
                # Work done before this process began says nothing about its pace.
                self._phase, self._started, self._first = phase, now, done
                self._shown = -_BAR_SECONDS if self._terminal else now
            self._done, self._total = done, total
            self._show(now, complete=done >= total)

    def tick(self) -> None:
        """Show that time goes by while nothing is said."""
        with self._lock:
            if self._phase and self._done < self._total:
                self._show(self._clock(), complete=False)

    def __enter__(self) -> "Progress":
        self._ticking.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._ticking.join()
        self._finish_line()

    def _tick_on(self) -> None:
        while not self._over.wait(_TICK_SECONDS):
            self.tick()

    def _show(self, now: float, *, complete: bool) -> None:
        if self._terminal and (now - self._shown >= _BAR_SECONDS or complete):
            self._shown, self._line_open = now, True
            self._draw(now)
        elif not self._terminal and now - self._shown >= _LINE_SECONDS:
            self._shown = now
            print(self._line(now), file=self._stream, flush=True)

    def _draw(self, now: float) -> None:
        line = self._line(now)
        self._stream.write("\r" + (line[:_WIDTH] if self._total == 1 else _bar(line, self._share())).ljust(_WIDTH))
        self._stream.flush()

    def _line(self, now: float) -> str:
        seconds = now - self._started
        if self._total == 1:
            return f"{self._phase}, {duration(seconds)}{' so far' if self._done < 1 else ''}"
        pace = (self._done - self._first) / max(seconds, 1e-9) if self._done > self._first else 0.0
        left = f", {duration((self._total - self._done) / pace)} left" if pace and self._done < self._total else ""
        rate = f", {_number(pace)}/s" if pace else ""
        return f"{self._phase} {self._share():4.0%} of {self._total:,}{rate}{left}"

    def _share(self) -> float:
        return min(self._done / self._total, 1.0) if self._total else 1.0

    def _finish_line(self) -> None:
        if self._line_open:
            if self._total == 1 and self._done < 1:  # the next phase tells that this one is over
                self._done = 1
                self._draw(self._clock())
            self._stream.write("\n")
            self._stream.flush()
            self._line_open = False


def duration(seconds: float) -> str:
    """Put seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _bar(text: str, share: float) -> str:
    room = _WIDTH - len(text) - 3
    if room < 10:
        return text[:_WIDTH]
    filled = round(room * share)
    return f"{text} [{'#' * filled}{'.' * (room - filled)}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
