"""How far the work of a config is: sequences in the store, trials of the sweep."""

from dataclasses import asdict, dataclass

from embed.fingerprint import find_sources
from embed.stage import read_table
from embed.work import left_to_read
from pipeline.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Distinct sequences of a table, and what of them the store lacks."""

    sequences: int
    left: int
    residues_left: int


def read_coverage(config: Config) -> Coverage:
    """Count the distinct sequences of the table and those that the store does not hold.

    Raises:
        EmbedError: The table, an encoder or the store cannot be used as it is.
    """
    work = left_to_read(read_table(config.embed, config.pairs), find_sources(config.embed), (1, 1))
    left = sum(len(missing) for missing, _ in work)
    return Coverage(
        sequences=left + sum(held for _, held in work),
        left=left,
        residues_left=sum(int(missing.length_N.sum()) for missing, _ in work),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCounts:
    """Trials of a sweep by how they stand."""

    folder: str
    complete: int
    pruned: int
    failed: int
    open: int
    """In work, waiting at a rung, or left by a worker that stopped or died."""


def count_trials(config: Config) -> TrialCounts | None:
    """Count the trials of a config's sweep; None where none was begun, or where Optuna is missing."""
    if config.sweep is None or config.train is None or not (config.sweep.folder / "study.journal").exists():
        return None
    try:
        from train.sweep.trials import Trials
    except ImportError:
        return None
    from train.sweep.space import read_space

    trials = Trials(config.sweep.folder, config.sweep, read_space(config.sweep.space, asdict(config.train)))
    states = [trial.state.name for trial in trials.counted()]
    return TrialCounts(
        folder=str(config.sweep.folder),
        complete=states.count("COMPLETE"),
        pruned=states.count("PRUNED"),
        failed=states.count("FAIL"),
        open=states.count("RUNNING"),
    )
