"""Disks in the place of the real one, for tests: one kills the process at an operation, one fails, one counts."""

import errno
import functools
import importlib
import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from embed.store import disk

Operation = Callable[..., object]
Disk = Callable[..., object]
"""Called with the name of an operation, the real one, and its arguments."""

OPERATIONS = [name for name, call in vars(disk).items() if callable(call)]


@contextmanager
def installed(other: Disk) -> Iterator[None]:
    """Let every operation go to another disk."""
    real = {name: getattr(disk, name) for name in OPERATIONS}
    for name, call in real.items():
        setattr(disk, name, functools.partial(other, name, call))
    try:
        yield
    finally:
        for name, call in real.items():
            setattr(disk, name, call)


class Counting:
    """Counts operations."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)  # of any thread
        self.count = 0

    def __call__(self, name: str, real: Operation, *arguments: object) -> object:
        self.count = next(self._numbers)
        return self.act(self.count, name, real, *arguments)

    def act(self, number: int, name: str, real: Operation, *arguments: object) -> object:
        """Do an operation, the `number`-th (from 1)."""
        return real(*arguments)


class Deadly(Counting):
    """Ends the process by SIGKILL before or after one operation."""

    def __init__(self, at: int, *, after: bool) -> None:
        super().__init__()
        self._at = at
        self._after = after

    def act(self, number: int, name: str, real: Operation, *arguments: object) -> object:
        if number == self._at and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments)
        if number == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


SHORT = 0
"""In the place of an error: less is written than asked."""
FAULTS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE, errno.EINTR, SHORT]


class Failing(Counting):
    """Fails at one operation, or from it on."""

    def __init__(self, at: int, fault: int, *, forever: bool) -> None:
        super().__init__()
        self._at = at
        self._fault = fault
        self._forever = forever
        self.hits = 0

    def act(self, number: int, name: str, real: Operation, *arguments: object) -> object:
        if not (number == self._at or (self._forever and number > self._at)):
            return real(*arguments)
        self.hits += 1
        if self._fault != SHORT:
            named = [] if name in ("write", "fsync", "fallocate", "ftruncate") else [os.fspath(arguments[0])]
            raise OSError(self._fault, os.strerror(self._fault), *named)
        if name == "write":
            descriptor, data = arguments
            return real(descriptor, data[: max(1, len(data) // 3)])
        return real(*arguments)


def check_error(error: OSError, fault: int, folder: Path, *, sized: bool = True) -> None:
    """Check that an error is the fault, names the folder, and where there is no room says how much, and the way out."""
    assert error.errno == fault != SHORT, repr(error)
    assert str(folder) in str(error.filename), repr(error)
    if fault in (errno.ENOSPC, errno.EDQUOT):
        assert "free some and run the same command again" in error.strerror, repr(error)
        assert not sized or "bytes are needed" in error.strerror, repr(error)


def forked(work: Callable[[], object]) -> int:
    """Do something in a process of its own, that dies with it; gives the exit code, or minus the signal.

    What it imported is imported here too, so that the next one need not.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with open(reader) as told:
            imported = told.read().split()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for name in imported:
            with suppress(Exception):  # not all that is listed was imported by this name
                importlib.import_module(name)
        return code
    os.close(reader)
    code, known = 1, set(sys.modules)
    try:
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os.write(writer, "\n".join(sys.modules.keys() - known).encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
