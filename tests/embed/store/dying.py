"""A writer of 3 shards as the embed stage writes them, killed at every operation, failed at every operation.

`python -m tests.embed.store.dying kills FOLDER` prints what it tried; it ends with 1 where a guarantee broke.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from embed.store.folder import shard_paths
from embed.store.maintenance import verify
from embed.store.reader import Vectors
from embed.store.schema import TEMPORARY_PREFIX, fingerprint_digest
from embed.store.writer import ShardWriter, create_folder
from tests.disks import FAULTS, Counting, Deadly, Failing, check_error, forked, installed
from tests.power import Recording, states

FACTS = {"encoder": "dying", "width": 16}
DIGEST = fingerprint_digest(FACTS)
NAME = f"dying-{DIGEST[:16]}"
ROWS, SHARD_ROWS = 21, 8
OLD = (1e9, 1e9)
FOLDERS = 2 * 3
"""Operations that make the folders above the store."""


def keys_of(numbers) -> np.ndarray:
    digests = [hashlib.blake2b(b"%d" % number, digest_size=16).digest() for number in numbers]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def store_of(root: Path) -> Path:
    """The store lies two folders deep, none of which is there."""
    return root / "deep" / "store"


def held(root: Path) -> list[int]:
    """List the numbers that the store gives back, each checked against what it must be."""
    folder = store_of(root) / NAME
    if not folder.exists():
        return []
    vectors = Vectors(folder)
    location_N = vectors.find(keys_of(range(ROWS)))
    there = np.flatnonzero(location_N >= 0)
    if len(there):
        assert vectors.read(location_N[there]).tolist() == keys_of(there).tolist()
        assert vectors.lengths(location_N[there]).tolist() == there.tolist()
    assert len(vectors) == len(there)
    return there.tolist()


def write(root: Path, tell: Callable[[str, int], object] = lambda what, number: None) -> None:
    """Bring what is missing into the store; tells what it encodes, and what is published when `add` returns."""
    folder = create_folder(store_of(root), NAME, FACTS, {"model": "none"})
    missing = sorted({*range(ROWS)} - {*held(root)})
    with ShardWriter(folder, fingerprint=DIGEST, dim=16, shard_rows=SHARD_ROWS) as writer:
        for place, number in enumerate(missing):
            tell("encode", number)
            key = keys_of([number])
            writer.add(key, key.astype(np.float32), np.array([number], np.int32))
            for published in missing[: len(writer.published) * SHARD_ROWS] if (place + 1) % SHARD_ROWS == 0 else ():
                tell("publish", published)
    for number in missing:
        tell("publish", number)


def ledger(path: Path) -> Callable[[str, int], object]:
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    return lambda what, number: os.write(descriptor, f"{what} {number}\n".encode())


def told(path: Path, what: str) -> list[int]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith(what)]


def look(root: Path, promised: Iterable[int]) -> list[int]:
    """Look at a store after a death: nothing wrong, nothing lost that was published; gives what it holds."""
    store = store_of(root)
    if store.exists():
        assert verify(store) == []
    found = held(root)
    assert {*promised} <= {*found}, f"published and lost: {promised}, {found}"
    return found


def check(root: Path, log: Path) -> None:
    """Look at a store after a death, then write again: the rest alone is encoded, and nothing lies about."""
    store, before = store_of(root), look(root, told(log, "publish"))
    for path in root.rglob(f"{TEMPORARY_PREFIX}*"):
        os.utime(path, OLD)
    again = log.with_suffix(".again")
    write(root, ledger(again))
    assert told(again, "encode") == [number for number in range(ROWS) if number not in before]
    assert held(root) == [*range(ROWS)]
    assert verify(store) == []
    names = {path.relative_to(store).as_posix() for path in store.rglob("*")}
    shards = {path.relative_to(store).as_posix() for path in shard_paths(store / NAME)}
    known = {NAME, f"{NAME}/shards", f"{NAME}/fingerprint.json", f"{NAME}/verified.json"}
    assert names == known | shards, "litter"


def count(root: Path) -> int:
    root.mkdir()
    counting = Counting()
    with installed(counting):
        write(root)
    shutil.rmtree(root)
    return counting.count


def kills(home: Path) -> dict[str, int]:
    """Kill before and after each operation."""
    done = 0
    for at in range(1, count(home / "count") + 1):
        for after in (False, True):
            root, log = home / f"{at}-{after}", home / f"{at}-{after}.log"
            root.mkdir()

            def die(root=root, log=log, at=at, after=after) -> None:
                with installed(Deadly(at, after=after)):
                    write(root, ledger(log))

            assert forked(die) == -signal.SIGKILL
            assert forked(lambda root=root, log=log: check(root, log)) == 0, (at, after)
            shutil.rmtree(root)
            done += 1
    return {"kill points of the store": done}


def errors(home: Path) -> dict[str, int]:
    """Fail each operation, once and from there on: success, or an error that says where and how much; then again."""
    done = 0
    for at in range(1, count(home / "count") + 1):
        for fault in FAULTS:
            for forever in (False, True):
                root, log = home / f"{at}-{fault}-{forever}", home / f"{at}-{fault}-{forever}.log"
                root.mkdir()
                disk = Failing(at, fault, forever=forever)
                try:
                    with installed(disk):
                        write(root, ledger(log))
                except OSError as error:
                    check_error(error, fault, home, sized=at > FOLDERS)
                assert disk.hits
                check(root, log)
                shutil.rmtree(root)
                done += 1
    return {"failing operations of the store": done}


def power(home: Path, each: str, again: str) -> dict[str, int]:
    """Cut the power after each operation; what was published by then is there. Every `again`-th is written again."""
    root, done = home / "recorded", 0
    root.mkdir()
    recording, published = Recording(root), []

    def tell(what: str, number: int) -> None:
        if what == "publish":
            published.append(number)
            recording.promise([*published])

    with installed(recording):
        write(root, tell)
    for state, promised in states(recording.events, home, each=int(each)):
        look(state, promised or ())
        if done % int(again) == 0:
            check(state, state.with_suffix(".log"))
        shutil.rmtree(state)
        done += 1
    return {"states of the store after a power failure": done}


if __name__ == "__main__":
    what, *options, folder = sys.argv[1:]
    print(json.dumps({"kills": kills, "errors": errors, "power": power}[what](Path(folder), *options)))
