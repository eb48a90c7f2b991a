"""The tasks of a submission as processes of this machine, some at a time."""

import fcntl
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress

from pipeline.devices import processors, visible_gpus
from pipeline.signals import STOPPED
from pipeline.submission import SubmissionDir, Tasks, start_line

_POLL_SECONDS = 0.05
_LOCK_TRIES = 20
_UNHEARD = (128 + signal.SIGTERM, 128 + signal.SIGUSR1)
"""Exit codes of a process that was told to stop before it listened."""


def run_tasks(
    tasks: Tasks,
    place: SubmissionDir,
    *,
    at_once: int,
    requeues: int,
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> dict[int, int]:
    """Run all tasks, `at_once` at a time, each on a GPU of its own where there are as many.

    Args:
        tasks: What is run.
        place: Where logs and exit codes go; its record must be there.
        at_once: Processes at a time; they share the CPUs evenly.
        requeues: How often a task that was stopped by another is begun again.
        say: Told each end.
        stop: Polled; when true, all are told to stop, and those that had not begun stay as they are.

    Returns:
        Exit codes of the tasks that began.
    """
    driver = _Driver(tasks, place, at_once=min(at_once, tasks.count), requeues=requeues, say=say)
    with place.record.open("rb") as record:
        _lock(record.fileno())
        try:
            driver.run(stop)
        finally:
            # After a second Ctrl-C, or a mistake of ours, no process stays behind.
            driver.tell(signal.SIGKILL)
    return driver.codes


class _Driver:
    def __init__(
        self, tasks: Tasks, place: SubmissionDir, *, at_once: int, requeues: int, say: Callable[[str], None]
    ) -> None:
        gpus = visible_gpus()
        self.codes: dict[int, int] = {}
        self._tasks, self._place, self._requeues, self._say = tasks, place, requeues, say
        self._waiting = deque(range(1, tasks.count + 1))
        self._starts: Counter[int] = Counter()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._free: deque[str | None] = deque(gpus[i % len(gpus)] if len(gpus) > 1 else None for i in range(at_once))
        self._gpu: dict[int, str | None] = {}
        self._threads = max(1, processors() // at_once)
        # A worker takes all processors, or GPUs, unless it is told that it is not alone.
        self._alone = ["--workers", "1"] if tasks.kind == "sweep" else []
        self._told = False

    def run(self, stop: Callable[[], bool]) -> None:
        """Run until all is over, or until all that ran has heard the stop."""
        while self._running or (self._waiting and not self._told):
            if stop() and not self._told:
                self._told = True
                self.tell(signal.SIGTERM)
            while self._waiting and self._free and not self._told:
                self._start(self._waiting.popleft())
            for task, process in list(self._running.items()):
                if process.poll() is not None:
                    self._end(task, process.returncode)
            time.sleep(_POLL_SECONDS)

    def tell(self, number: signal.Signals) -> None:
        """Send all that run a signal."""
        for process in self._running.values():
            process.send_signal(number)

    def _start(self, task: int) -> None:
        gpu = self._gpu[task] = self._free.popleft()
        # Encoders were fetched when this was submitted.
        environment = os.environ | {"OMP_NUM_THREADS": str(self._threads), "HF_HUB_OFFLINE": "1"}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._starts[task] += 1
        where = platform.node() if gpu is None else f"GPU {gpu} of {platform.node()}"
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        begun = start_line(self._tasks.word, task, self._tasks.count, str(self._starts[task]), where, when)
        self._place.code(task).unlink(missing_ok=True)
        with self._place.log(task).open("ab", buffering=0) as log:
            _lock(log.fileno())
            log.write(f"{begun}\n".encode())
            self._running[task] = subprocess.Popen(
                # -P: a train.py in the working directory is not ours.
                [sys.executable, "-P", "-m", "pipeline", *self._tasks.words(task), *self._alone],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                process_group=0,  # Ctrl-C reaches this process alone, which passes it on
            )

    def _end(self, task: int, returned: int) -> None:
        code = returned if returned >= 0 else 128 - returned
        code = STOPPED if self._told and code in _UNHEARD else code
        del self._running[task]
        self._free.append(self._gpu[task])
        self.codes[task] = code
        self._place.code(task).write_text(f"{code}\n")
        again = code == STOPPED and not self._told and self._starts[task] <= self._requeues
        if again:
            self._waiting.append(task)
        self._say(_told_of(self._tasks, task, code, again))


def _lock(descriptor: int) -> None:
    """Hold a file for as long as this process, or one that inherits the descriptor, lives: `status` sees it."""
    for _ in range(_LOCK_TRIES):
        with suppress(OSError):  # a `status` that looks just now; or a filesystem without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_POLL_SECONDS / 10)


def _told_of(tasks: Tasks, task: int, code: int, again: bool) -> str:
    ends = {0: "is done", STOPPED: "was stopped and begins again" if again else "was stopped"}
    return f"{tasks.word} {task} of {tasks.count} {ends.get(code, f'failed with exit code {code}')}"
