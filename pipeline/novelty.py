"""Warns of pairs that are unlike what a run was trained on, as far as that can still be read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from embed.errors import EmbedError
from embed.pairs import PairTable
from pipeline.config import Config, train_section
from pipeline.errors import ConfigError
from pipeline.training import trained_table
from train.errors import TrainError
from train.rundir import RunDir

_IN_WORDS = {"heavy": "heavy chains", "antigen": "antigens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """What was found of each pair of a table."""

    warning_N: list[str | None]
    """None for a pair that is like training, and for all where nothing could be compared."""
    below: dict[str, float] = field(default_factory=dict)
    """By role, `heavy` and `antigen`: identity with the nearest of training below which it is warned."""
    notes: list[str] = field(default_factory=list)
    """What was not compared, and why."""


def warn_of_novelty(
    run: RunDir,
    config: Config,
    identity: Mapping[str, object],
    asked: PairTable,
    progress: Callable[[str, int, int], None],
) -> Warned:
    """Compare a table with the training pairs of a run.

    Args:
        run: Its folder.
        config: Its config.
        identity: What made it that run.
        asked: The table.
        progress: Told the distinct sequences compared.
    """
    try:
        trained = trained_table(config, identity)
        part_N = _parts(run, trained, identity)
        near = train_section(config, run.config).identity
    except (ConfigError, EmbedError, TrainError, OSError, pa.ArrowException, LookupError) as error:
        return Warned(warning_N=[None] * len(asked.id), notes=[f"Not compared with training: {error}"])
    from train.novelty import find_novelty

    train_M, test_T = (np.flatnonzero(part_N == part) for part in (0, 2))
    found = find_novelty(trained, train_M, test_T, asked, identity=near, progress=progress)
    notes = [
        f"Compared with {looked_at:,} of {distinct:,} {_IN_WORDS[role]} of training, at random."
        for role, (looked_at, distinct) in found.sampled.items()
    ]
    return Warned(warning_N=found.warnings(), below=found.below, notes=notes)


def _parts(run: RunDir, trained: PairTable, identity: Mapping[str, object]) -> npt.NDArray[np.int8]:
    """Read the part of every pair of a run.

    Raises:
        ConfigError: It is not that of the run.
    """
    from train.splits import PARTS, split_digest

    code = {part: number for number, part in enumerate(PARTS)}
    names = pq.read_table(run.split)["split"].to_pylist()
    part_N = np.array([code.get(name, -1) for name in names], np.int8)
    if split_digest(trained.id, part_N) != identity.get("split (SHA-256)"):
        raise ConfigError(f"{run.split} is not the split any more that the run was trained on.")
    return part_N
