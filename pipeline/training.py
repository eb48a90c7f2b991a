"""`bindcache train`: the vectors of a table, found in the store, become a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embed.config import EmbedConfig
from embed.fingerprint import Sources, find_sources
from embed.stage import read_table
from pipeline.config import Config, resolved, train_section
from train.rundir import RunDir

if TYPE_CHECKING:
    from train.dataset import VectorFolders
    from train.result import TrainResult


def train_from_store(
    config: Config,
    path: Path,
    *,
    resume: bool,
    started: float,
    progress: Callable[[str, int, int], None],
    stop: Callable[[], bool],
) -> "TrainResult":
    """Train a regressor on a table whose vectors are in the store.

    Args:
        config: The whole config.
        path: The file it came from, for errors.
        resume: Whether a run that was begun may go on.
        started: When the process started, in seconds since the epoch.
        progress: Told the phase, and how much of how much of it is done.
        stop: Polled between steps; when true, a checkpoint is written and the result says `stopped`.

    Raises:
        ConfigError: The config has no section [train].
        EmbedError: The table, an encoder or the store cannot be used as it is.
        TrainError: Vectors are missing, or the run cannot be begun or gone on with.
    """
    train = train_section(config, path)
    table = read_table(config.embed, config.pairs)
    sources = find_sources(config.embed)
    pinned = replace(config, embed=_pin(config.embed, sources))
    from train.stage import run_train

    return run_train(
        train,
        table,
        vector_folders_of(sources),
        resolved=resolved(pinned),
        resume=resume,
        started=started,
        progress=progress,
        stop=stop,
    )


def is_finished(config: Config) -> bool:
    """Tell whether the config's run has its result."""
    return config.train is not None and RunDir(config.train.run).result.exists()


def vector_folders_of(sources: Sources) -> "VectorFolders":
    """Tell the train stage where in the store the vectors are."""
    from train.dataset import VectorFolders

    return VectorFolders(paired=sources.paired.folder, single=sources.single.folder, antigen=sources.antigen.folder)


def _pin(embed: EmbedConfig, sources: Sources) -> EmbedConfig:
    """Name the commits that were found, so that the run keeps its encoders when a branch moves on."""
    own_single = sources.single.checkpoint is not sources.paired.checkpoint
    return replace(
        embed,
        antibody_revision=sources.paired.checkpoint.revision,
        antigen_revision=sources.antigen.checkpoint.revision,
        single_chain_revision=sources.single.checkpoint.revision if own_single else "",
    )
