"""Looking after a store: what is in it, whether it is whole, clearing it up, joining two."""

import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embed.errors import StoreError
from embed.store.folder import Fingerprint, fingerprint_folders, golden_paths, read_fingerprint, shard_paths
from embed.store.golden import make_golden_folder, read_golden, refuse_difference
from embed.store.image import mean_of
from embed.store.publish import publish
from embed.store.reader import Vectors
from embed.store.schema import FINGERPRINT_FILE, SHARDS_FOLDER, TEMPORARY_PREFIX
from embed.store.shard import Shard, open_shard
from embed.store.verified import WAY_OUT, Verified
from embed.store.writer import create_folder

_MEAN_TOLERANCE = 1e-3
"""Relative L2 difference of a sequence's vector and the mean of its residues (FORMAT.md)."""

Progress = Callable[[str, int, int], None]
"""Told a phase, and how much of how much of it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderInfo:
    """What one fingerprint's folder holds."""

    name: str
    fingerprint: str
    facts: Mapping[str, object]
    resolved: Mapping[str, object]
    shards: int
    keys: int
    residues: int
    """Vectors of residues, of all keys together; 0 where each key has one vector."""
    dim: int
    dtype: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that breaks FORMAT.md; the reason names it and the way out."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """A file or folder that nothing needs."""

    path: Path
    bytes: int
    reason: str


def info(root: Path) -> list[FolderInfo]:
    """Describe each folder of a store.

    Raises:
        StoreError: There is no store, or a shard is damaged.
    """
    return [_describe(folder) for folder in fingerprint_folders(root)]


def verify(root: Path, progress: Progress = lambda phase, done, total: None) -> list[Problem]:
    """Hash and check every shard of a store, golden ones too, whatever is remembered; remember only what is right.

    Args:
        root: The store.
        progress: Told the shards verified.

    Raises:
        StoreError: There is no store.
    """
    folders = fingerprint_folders(root)
    total, done = sum(len(shard_paths(folder)) for folder in folders), itertools.count(1)
    return [
        problem
        for folder in folders
        for problem in _verify_folder(folder, lambda: progress("verifying shards", min(next(done), total), total))
    ]


def gc(root: Path, older_than_s: float = 3600, *, dry_run: bool = False) -> list[Garbage]:
    """Remove temporaries of killed writers, and shards all of whose keys are in shards of lower name.

    Raises:
        StoreError: There is no store, or a shard is damaged.
    """
    found = [garbage for folder in fingerprint_folders(root) for garbage in _redundant(folder)]
    found += _stale_temporaries(root, time.time() - older_than_s)
    for garbage in found if not dry_run else ():
        if garbage.path.is_dir() and not garbage.path.is_symlink():
            shutil.rmtree(garbage.path)
        else:
            garbage.path.unlink(missing_ok=True)
    return found


def merge(root: Path, other: Path, progress: Progress = lambda phase, done, total: None) -> list[Path]:
    """Publish the shards of another store in this one, and list those that are new here.

    Args:
        root: This store.
        other: The other one.
        progress: Told the shards verified, then of each folder those merged.

    Raises:
        StoreError: The other store does not verify, or has other facts or golden vectors under a folder's name.
        OSError: The disk is full or fails; what is published so far stays.
    """
    problems = verify(other, progress)
    if problems:
        raise StoreError(f"{other} was not merged: {len(problems)} files are wrong. {problems[0].reason}")
    published: list[Path] = []
    for folder in fingerprint_folders(other):
        fingerprint = read_fingerprint(folder)
        home = create_folder(root, folder.name, fingerprint.facts, fingerprint.resolved)
        _merge_golden(home, folder, fingerprint)
        here = {path.name for path in shard_paths(home)}
        new = [shard for shard in shard_paths(folder) if shard.name not in here]
        for done, shard in enumerate(new, 1):
            published.append(publish(_image_of(shard), home / SHARDS_FOLDER))
            progress("merging shards", done, len(new))
    return published


def _describe(folder: Path) -> FolderInfo:
    fingerprint, vectors, shards = read_fingerprint(folder), Vectors(folder), shard_paths(folder)
    return FolderInfo(
        name=folder.name,
        fingerprint=fingerprint.digest,
        facts=fingerprint.facts,
        resolved=fingerprint.resolved,
        shards=len(shards),
        keys=len(vectors),
        residues=vectors.residue_count(),
        dim=vectors.dim,
        dtype="float16" if vectors.has_residues else vectors.dtype.name,
        bytes=sum(shard.stat().st_size for shard in shards),
    )


def _verify_folder(folder: Path, step: Callable[[], None]) -> Iterator[Problem]:
    fingerprint = ""
    try:
        fingerprint = read_fingerprint(folder).digest
    except StoreError as error:
        yield Problem(path=folder / FINGERPRINT_FILE, reason=str(error))
    verified, like = Verified(folder, forget=True), None
    for path in shard_paths(folder):
        try:
            verified.check(path)
            if fingerprint:
                like = _verify_shard(path, fingerprint, like)
        except FileNotFoundError:
            continue
        except StoreError as error:
            yield Problem(path=path, reason=str(error))
        step()
    verified.save()
    for path in golden_paths(folder) if fingerprint else ():
        try:
            _refuse_infinite(path, read_golden(path, fingerprint).vector_GD)
        except FileNotFoundError:
            continue
        except StoreError as error:
            yield Problem(path=path, reason=str(error))


def _verify_shard(path: Path, fingerprint: str, like: Shard | None) -> Shard:
    """Check a shard, and that it is like the first of its folder, which comes back."""
    shard = open_shard(path, fingerprint=fingerprint, dim=like.vector.shape[1] if like else None)
    if like and shard.kind != like.kind:
        raise StoreError(f"{path} holds {shard.kind}, its folder {like.kind}. {WAY_OUT}.")
    _refuse_infinite(path, shard.vector.map())
    if shard.residues is not None and shard.rows_N is not None:
        _refuse_strange_means(path, shard.vector.map(), shard.residues.map(), shard.rows_N)
    return like or shard


def _refuse_strange_means(
    path: Path,
    mean_ND: npt.NDArray[np.float32],
    residue_TD: npt.NDArray[np.float16],
    rows_N: npt.NDArray[np.int32],
) -> None:
    """Refuse vectors that are not the means of their residues; a mean is finite if all of its residues are."""
    parts = np.split(residue_TD, np.cumsum(rows_N, dtype=np.int64)[:-1])
    apart_N = [np.linalg.norm(mean_of(part) - mean_D) for part, mean_D in zip(parts, mean_ND, strict=True)]
    if not (np.array(apart_N) <= _MEAN_TOLERANCE * np.linalg.norm(mean_ND, axis=1)).all():
        raise StoreError(f"{path} holds a vector that is not the mean of its residues. {WAY_OUT}.")


def _refuse_infinite(path: Path, vector_ND: npt.NDArray[Any]) -> None:
    if not np.isfinite(vector_ND).all():
        raise StoreError(f"{path} holds a vector that is not finite. {WAY_OUT}.")


def _merge_golden(home: Path, folder: Path, fingerprint: Fingerprint) -> None:
    ours, theirs = golden_paths(home), golden_paths(folder)
    if theirs and not ours:
        publish(_image_of(theirs[0]), make_golden_folder(home))
    elif theirs:
        here, there = (read_golden(paths[0], fingerprint.digest) for paths in (ours, theirs))
        refuse_difference(here, there, fingerprint.facts, names=(str(home), str(folder)))


def _redundant(folder: Path) -> Iterator[Garbage]:
    for path in Vectors(folder).redundant():
        yield Garbage(path=path, bytes=path.stat().st_size, reason="all its keys are in shards of lower name")


def _stale_temporaries(root: Path, before: float) -> Iterator[Garbage]:
    pattern = f"{TEMPORARY_PREFIX}*"
    levels = (pattern, f"*/{pattern}", f"*/{SHARDS_FOLDER}/{pattern}")
    for path in sorted(path for level in levels for path in root.glob(level)):
        status = path.lstat()
        if status.st_mtime <= before:
            yield Garbage(path=path, bytes=status.st_size, reason="left by a writer that was killed")


def _image_of(shard: Path) -> bytes:
    image = shard.read_bytes()
    if hashlib.sha256(image).hexdigest() != shard.stem:
        raise StoreError(f"{shard} changed while it was merged. {WAY_OUT}.")
    return image
