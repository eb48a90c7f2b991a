"""`bindcache train`: the vectors of a table, found in the store, become a run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embed.fingerprint import Sources, find_sources
from embed.pairs import PairTable
from embed.stage import read_table
from pipeline.config import Config, resolved, train_section
from pipeline.errors import ConfigError
from pipeline.report.behind import Behind
from pipeline.report.page import FILE
from pipeline.report.writing import Written, report_run
from train.rundir import RunDir

if TYPE_CHECKING:
    from train.dataset import VectorFolders
    from train.result import TrainResult


class Trained(NamedTuple):
    """What a training came to, and its page; a stopped one has none."""

    result: "TrainResult"
    report: Written


def train_from_store(
    config: Config,
    path: Path,
    *,
    resume: bool,
    started: float,
    progress: Callable[[str, int, int], None],
    stop: Callable[[], bool],
) -> Trained:
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
    finished = is_finished(config)
    table = read_table(config.embed, config.pairs)
    sources = find_sources(config.embed)
    from train.stage import run_train

    result = run_train(
        train,
        table,
        vector_folders_of(sources),
        resolved=resolved(pinned(config, sources)),
        resume=resume,
        started=started,
        progress=progress,
        stop=stop,
    )
    page = train.run / FILE
    if result.stopped or (finished and page.exists()):
        return Trained(result, Written(path=page if finished else None))
    return Trained(result, report_run(train.run, progress, Behind(config=config, table=table, sources=sources)))


def is_finished(config: Config) -> bool:
    """Tell whether the config's run has its result."""
    return config.train is not None and RunDir(config.train.run).result.exists()


def trained_table(config: Config, identity: Mapping[str, object]) -> PairTable:
    """Read the table again that a run was trained on.

    Args:
        config: The run's.
        identity: What made it that run.

    Raises:
        ConfigError: The table is another one now.
        EmbedError: It cannot be read any more.
    """
    table = read_table(config.embed, config.pairs)
    if table.digest != identity.get("pairs table (SHA-256)"):
        raise ConfigError(f"{config.pairs.path} is not the table any more that the run was trained on.")
    return table


def vector_folders_of(sources: Sources) -> "VectorFolders":
    """Tell the train stage where in the store the vectors are."""
    from train.dataset import VectorFolders

    return VectorFolders(paired=sources.paired.folder, single=sources.single.folder, antigen=sources.antigen.folder)


def pinned(config: Config, sources: Sources) -> Config:
    """Name the commits that were found, so that a run keeps its encoders when a branch moves on."""
    own_single = sources.single.checkpoint is not sources.paired.checkpoint
    embed = replace(
        config.embed,
        antibody_revision=sources.paired.checkpoint.revision,
        antigen_revision=sources.antigen.checkpoint.revision,
        single_chain_revision=sources.single.checkpoint.revision if own_single else "",
    )
    return replace(config, embed=embed)
