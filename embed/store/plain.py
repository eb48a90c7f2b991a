"""Opening a plain file, and nothing that only stands in its place."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


class NotPlainError(OSError):
    """A link, a folder, a pipe or anything else that is no plain file."""


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file for reading; never follows a link, never waits.

    Raises:
        FileNotFoundError: It is gone.
        NotPlainError: It is something else.
        OSError: It may not be read.
    """
    # O_NONBLOCK: a named pipe would wait for its other end.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPlainError(error.errno, "a link", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainError(errno.EINVAL, "no plain file", str(path))
    return os.fdopen(descriptor, "rb")
