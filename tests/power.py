"""What a disk may hold after the power failed: recorded operations, replayed with some that never reached it.

The model is that of ALICE (Pillai et al., OSDI 2014): data are on the disk after an fsync of their file, names after an
fsync of their folder; of everything else any part may be missing, and data may also be zeros, cut, or garbage.
"""

import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Choice = Callable[[], str]
"""What becomes of something that no fsync has made durable."""
_PAGE = 512
FATES = ("there", "missing", "zeros", "cut", "garbage")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, to a file or folder known by its number."""

    kind: str
    """`folder`, `data`, `size`, `names`, `sync` or `promise`."""
    of: int = 0
    offset: int = 0
    data: bytes = b""
    names: tuple[tuple[str, int | None], ...] = ()
    """Names in a folder, and what they name from now on."""
    promise: object = None


class Recording:
    """Does every operation, and remembers those below one folder, which is empty at first."""

    def __init__(self, home: Path) -> None:
        self.events: list[Event] = []
        self._home = os.fspath(home)
        self._number = {self._home: 0}
        self._files: dict[int, int] = {}  # by descriptor
        self._ends: dict[int, int] = {}
        self._made = 0
        self._lock = threading.RLock()

    def __call__(self, name: str, real: Callable[..., object], *arguments: object) -> object:
        with self._lock:
            result = real(*arguments)
            first = arguments[0] if isinstance(arguments[0], int) else os.fspath(arguments[0])
            if isinstance(first, str) and not first.startswith(self._home):
                self._files.pop(result, None)
            elif isinstance(first, str) or first in self._files:
                getattr(self, f"_{name}")(result, first, *arguments[1:])
            return result

    def promise(self, what: object) -> None:
        """Remember what is promised from now on."""
        with self._lock:
            self.events.append(Event("promise", promise=what))

    def _give(self, *names: tuple[str, int | None]) -> None:
        folder = names[0][0].rpartition("/")[0]
        assert all(path.rpartition("/")[0] == folder for path, _ in names), "a rename within a folder"
        for path, number in names:
            self._number.pop(path, None)
            if number is not None:
                self._number[path] = number
        renamed = tuple((path.rpartition("/")[2], number) for path, number in names)
        self.events.append(Event("names", self._number[folder], names=renamed))

    def _open(self, descriptor: int, path: str, *_: object) -> None:
        if path not in self._number:
            self._made += 1
            self._give((path, self._made))
        self._files[descriptor] = self._number[path]

    def _mkdir(self, _: None, path: str, *__: object) -> None:
        self._made += 1
        self.events.append(Event("folder", self._made))
        self._give((path, self._made))

    def _write(self, count: int, descriptor: int, data: bytes) -> None:
        number = self._files[descriptor]
        end = self._ends.get(number, 0)
        self.events.append(Event("data", number, end, bytes(data[:count])))
        self._ends[number] = end + count

    def _fallocate(self, _: None, descriptor: int, size: int) -> None:
        self.events.append(Event("size", self._files[descriptor], size))

    def _ftruncate(self, _: None, descriptor: int, size: int) -> None:
        self.events.append(Event("size", self._files[descriptor], -size - 1))
        self._ends[self._files[descriptor]] = size

    def _fsync(self, _: None, descriptor: int) -> None:
        self.events.append(Event("sync", self._files[descriptor]))

    def _link(self, _: None, old: str, new: object) -> None:
        self._give((os.fspath(new), self._number[old]))

    def _replace(self, _: None, old: str, new: object) -> None:
        number, new = self._number[old], os.fspath(new)
        inside = {path: at for path, at in self._number.items() if path.startswith(f"{old}/")}
        for path, at in inside.items():
            del self._number[path]
            self._number[new + path.removeprefix(old)] = at
        self._give((old, None), (new, number))

    _rename = _replace

    def _unlink(self, _: None, path: str) -> None:
        self._give((path, None))

    _rmdir = _unlink

    def _utime(self, *_: object) -> None:
        pass


def states(events: list[Event], home: Path, *, each: int, seed: int = 0) -> Iterator[tuple[Path, object]]:
    """Lay out the distinct states that a failure after any event may leave, with what was promised by then.

    After each event: everything lost that may be, nothing lost, and `each` draws between.
    """
    draw, seen = random.Random(seed), set()
    promised: object = None
    for end in range(len(events) + 1):
        if end and events[end - 1].kind == "promise":
            promised = events[end - 1].promise
        durable = _durable(events[:end])
        fates = [lambda: "missing", lambda: "there", *[lambda: draw.choice(FATES)] * each]
        for fate in fates:
            files, names = _replay(events[:end], durable, fate, draw)
            digest = hashlib.sha256(repr((sorted(files.items()), sorted(names.items()), promised)).encode()).digest()
            if digest in seen:
                continue
            seen.add(digest)
            state = home / f"{len(seen)}"
            _lay_out(state, 0, files, names)
            yield state, promised


def _durable(events: list[Event]) -> list[bool]:
    synced, durable = set(), []
    for event in reversed(events):
        if event.kind == "sync":
            synced.add(event.of)
        durable.append(event.of in synced)
    return durable[::-1]


def _replay(
    events: list[Event], durable: list[bool], fate: Choice, draw: random.Random
) -> tuple[dict[int, bytes], dict[int, dict[str, int]]]:
    files: dict[int, bytearray] = {}
    folders: dict[int, dict[str, int]] = {0: {}}
    for event, is_durable in zip(events, durable, strict=True):
        if event.kind == "folder":
            folders[event.of] = {}
        what = "there" if is_durable else fate()
        if event.kind == "names" and what in ("there", "zeros"):
            for name, number in event.names:
                folders[event.of].pop(name, None)
                if number is not None:
                    folders[event.of][name] = number
        if event.kind == "size" and what != "missing":
            content = files.setdefault(event.of, bytearray())
            if event.offset < 0:
                del content[-event.offset - 1 :]
            else:
                content.extend(bytes(max(0, event.offset - len(content))))
        if event.kind == "data":
            for start in range(0, len(event.data), _PAGE):
                page = event.data[start : start + _PAGE]
                _put(
                    files.setdefault(event.of, bytearray()),
                    event.offset + start,
                    page,
                    "there" if is_durable else fate(),
                    draw,
                )
    return {number: bytes(content) for number, content in files.items()}, folders


def _put(content: bytearray, offset: int, page: bytes, fate: str, draw: random.Random) -> None:
    """Write a page as far as the disk got."""
    if fate == "missing":
        return
    if fate == "cut":
        page = page[: draw.randrange(len(page))]
    elif fate != "there":
        page = bytes(len(page)) if fate == "zeros" else draw.randbytes(len(page))
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(page)] = page


def _lay_out(path: Path, number: int, files: dict[int, bytes], folders: dict[int, dict[str, int]]) -> None:
    if number in folders:
        path.mkdir()
        for name, inner in folders[number].items():
            _lay_out(path / name, inner, files, folders)
    else:
        path.write_bytes(files.get(number, b""))
