"""The real command line on a disk that is full or fails.

`python -m tests.pipeline.failing tmpfs CONFIG FOLDER`, in a namespace of its own, mounts 4 MB on FOLDER and fills them;
`python -m tests.pipeline.failing faults EVERY CONFIG FOLDER` fails each EVERY-th case of operation, fault and duration.
Both print what they tried, and end with 1 where a guarantee broke, or 77 where nothing can be mounted.
"""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from pipeline.cli import main
from tests.disks import FAULTS, Counting, Disk, Failing, forked, installed

QUICK = ["--set", "train.epochs=2", "--set", "train.widths=[32, 16]", "--set", "train.compile=off"]
NO_MOUNT = 77


def bindcache(log: Path, *arguments: object, disk: Disk | None = None) -> tuple[int, str]:
    """Run a command in a process of its own; gives its exit code and what it said."""

    def run() -> None:
        torch.set_num_threads(1)
        descriptor = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        with ExitStack() as stack:
            if disk is not None:
                stack.enter_context(installed(disk))
            main([str(argument) for argument in arguments], prog_name="bindcache")

    code = forked(run)
    return code, log.read_text()


def refused(code: int, said: str, *sentences: str) -> None:
    """Check that a command failed as it should: exit code 1, one clear sentence, no traceback."""
    assert code == 1, (code, said)
    assert "Traceback" not in said, said
    assert "bug" not in said, said
    for sentence in sentences:
        assert re.search(sentence, said), (sentence, said)


def tmpfs(config: Path, small: Path) -> dict[str, int]:
    """Embed and train on 4 MB that are nearly taken, then make room and do the same again."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small]).returncode:
        sys.exit(NO_MOUNT)
    log, ballast = config.with_name("failing.log"), small / "ballast"
    full = r"No space left on device, and [\d,]+ bytes are needed; free some and run the same command again"
    store = ["--set", f"embed.store={small}/store", "--set", "embed.shard_rows=8"]
    room = {"embed": 128 << 10, "train": 24 << 10}
    runs = {"embed": ["embed", "--config", config, *store]}
    runs["train"] = ["train", "--config", config, *QUICK, *store, "--set", f"train.run={small}/run", "--resume"]
    for name, command in runs.items():
        fill(ballast, leave=room[name])
        refused(*bindcache(log, *command), full, str(small))
        if name == "embed":
            published = len([*small.rglob("*.h5")])
            assert published, "the disk was to be full after some shards"
            code, said = bindcache(log, "store", "verify", "--config", config, *store)
            assert code == 0, said
        ballast.unlink()
        code, said = bindcache(log, *command)
        assert code == 0, said
    assert (small / "run" / "result.json").exists()
    assert not [*small.rglob(".tmp-*")], "litter"
    return {"real full disks": len(runs)}


def fill(ballast: Path, *, leave: int) -> None:
    """Take all room but about `leave` bytes."""
    room = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - leave)


def faults(every: int, config: Path, home: Path) -> dict[str, int]:
    """Fail operations of `embed` and `train`, once and from there on, and then run the same command again."""
    log, tried = home / "log", 0
    whole = ["--set", f"embed.store={home}/whole"]
    assert bindcache(log, "embed", "--config", config, *whole)[0] == 0
    for name, command in (
        ("embed", ["embed", "--config", config, "--set", "embed.store={root}"]),
        ("train", ["train", "--config", config, *QUICK, *whole, "--resume", "--set", "train.run={root}"]),
    ):
        total = _count(log, [str(word).format(root=home / f"counted-{name}") for word in command], home / "count")
        cases = [(at, fault, forever) for fault in FAULTS for forever in (False, True) for at in range(1, total + 1)]
        for at, fault, forever in cases[::every]:
            root = home / f"{name}-{at}-{fault}-{forever}"
            words = [str(word).format(root=root) for word in command]
            code, said = bindcache(log, *words, disk=Failing(at, fault, forever=forever))
            if code:
                refused(code, said, os.strerror(fault), str(home))
                if fault in (errno.ENOSPC, errno.EDQUOT):
                    refused(code, said, "free some and run the same command again")
            code, said = bindcache(log, *words)
            assert code == 0, (at, fault, forever, said)
            shutil.rmtree(root)
            tried += 1
    return {"failing operations under the command line": tried}


def _count(log: Path, command: Sequence[str], kept: Path) -> int:
    class Kept(Counting):
        def act(self, number, name, real, *arguments):
            kept.write_text(str(number))
            return real(*arguments)

    code, said = bindcache(log, *command, disk=Kept())
    assert code == 0, said
    return int(kept.read_text())


if __name__ == "__main__":
    if sys.argv[1] == "tmpfs":
        print(json.dumps(tmpfs(Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        print(json.dumps(faults(int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))))
