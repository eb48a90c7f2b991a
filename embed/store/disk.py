"""Everything that changes files and folders of stores and runs: system calls as they are.

Callers write `disk.fsync(...)`, so that a test can put a failing, dying or recording disk in their place.
"""

import os

open = os.open
ftruncate = os.ftruncate
write = os.write
fsync = os.fsync
link = os.link
replace = os.replace
rename = os.rename
unlink = os.unlink
mkdir = os.mkdir
rmdir = os.rmdir
utime = os.utime


def fallocate(descriptor: int, size: int) -> None:
    """Take room for `size` bytes, where the system can say beforehand that there is none."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
