"""What `import bindcache` gives to notebooks and programs: the commands `embed`, `train` and `predict` as functions.

Everything heavy is imported inside the functions, so that the import answers at once.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed.errors import EmbedError
from pipeline.compiled import keep_compiled_private
from pipeline.errors import ConfigError
from train.errors import TrainError

if TYPE_CHECKING:
    import pyarrow as pa

    from embed.result import EmbedResult
    from pipeline.config import Config
    from train.result import TrainResult

__all__ = ["ConfigError", "EmbedError", "TrainError", "embed", "predict", "train"]

Section = Mapping[str, Any]
_Where = str | PathLike[str]


def embed(
    config: _Where | None = None,
    *,
    pairs: Section | None = None,
    embed: Section | None = None,
    part: tuple[int, int] = (1, 1),
    progress: bool = True,
) -> "EmbedResult":
    """Encode what the store does not hold yet, as `bindcache embed` does.

    Args:
        config: A TOML file; None: the sections are all there is.
        pairs: Keys of the section [pairs], over those of the file; paths are relative to the working directory.
        embed: Keys of the section [embed], likewise.
        part: `(i, N)`: only the i-th of N shares of the distinct sequences.
        progress: Whether to show on stderr how far it is.

    Raises:
        ConfigError: The file cannot be read, or a section, key or value is not known.
        EmbedError: The table, an encoder or the store cannot be used as it is.
        KeyboardInterrupt: It was interrupted; what is encoded is in the store, and the same call goes on.
    """
    started = time.time()
    settings = _settings(config, pairs=pairs, embed=embed)
    with _work(progress) as (told, stop):
        from embed.stage import run_embed
        from pipeline.report.writing import report_embedding

        result = run_embed(settings.embed, settings.pairs, part=part, started=started, progress=told, stop=stop)
        note = "" if result.stopped else report_embedding(settings, result, told).note
    for warning in (*result.warnings, note):
        if warning:
            warnings.warn(warning, stacklevel=2)
    return result


def train(
    config: _Where | None = None,
    *,
    pairs: Section | None = None,
    embed: Section | None = None,
    train: Section | None = None,
    resume: bool = False,
    progress: bool = True,
) -> "TrainResult":
    """Train a regressor on the vectors in the store, as `bindcache train` does.

    Args:
        config: A TOML file; None: the sections are all there is.
        pairs: Keys of the section [pairs], over those of the file; paths are relative to the working directory.
        embed: Keys of the section [embed], likewise.
        train: Keys of the section [train], likewise.
        resume: Go on with the run; start it if it is new; give its result if it is finished.
        progress: Whether to show on stderr how far it is.

    Raises:
        ConfigError: The file cannot be read, or a section, key or value is not known.
        EmbedError: The table, an encoder or the store cannot be used as it is.
        TrainError: Vectors are missing, or the run cannot be begun or gone on with.
        KeyboardInterrupt: It was interrupted; a checkpoint is kept, and the same call with `resume=True` goes on.
    """
    started = time.time()
    settings = _settings(config, pairs=pairs, embed=embed, train=train)
    with _work(progress) as (told, stop):
        from pipeline.config import CALL
        from pipeline.training import train_from_store

        named = Path(CALL if config is None else config)
        result, report = train_from_store(settings, named, resume=resume, started=started, progress=told, stop=stop)
    if report.note:
        warnings.warn(report.note, stacklevel=2)
    return result


def predict(
    run: _Where,
    pairs: _Where,
    *,
    ensemble: bool = False,
    top: int | None = None,
    out: _Where | None = None,
    progress: bool = True,
) -> "pa.Table":
    """Predict the pKd of every row of a table, as `bindcache predict` does.

    Args:
        run: Folder of a finished run, or of a sweep.
        pairs: The table, with the column names of the run's own table; no affinities are needed.
        ensemble: Whether `run` is a sweep, whose best trials predict together.
        top: Only so many rows of highest prediction, the highest first; None: all, in the table's order.
        out: File to write as well, .parquet, .csv or .tsv.
        progress: Whether to show on stderr how far it is.

    Returns:
        The columns row (from 1), id, prediction, low_50, high_50, low_80, high_80, low_95, high_95 (pKd), of an
        ensemble spread, then warning and reason. The schema's metadata `bindcache` is JSON: what was counted.

    Raises:
        ConfigError: The run is not finished, `top` is no number from 1 on, or `out` cannot be written.
        EmbedError: The table, an encoder or the store cannot be used as it is.
        TrainError: The run's weights cannot be used.
        KeyboardInterrupt: It was interrupted; what is encoded is in the store.
    """
    if top is not None and (type(top) is not int or top < 1):
        raise ConfigError(f"top = {top!r}: it is a whole number from 1 on, or None for all rows.")
    started = time.time()
    with _work(progress) as (told, stop):
        from pipeline.predict import predict_pairs

        result, table = predict_pairs(
            Path(run),
            Path(pairs),
            None if out is None else Path(out),
            ensemble=ensemble,
            top=top,
            clock=lambda: time.time() - started,
            progress=told,
            stop=stop,
        )
    for note in result.notes:
        warnings.warn(note, stacklevel=2)
    return table


def _settings(config: _Where | None, **sections: Section | None) -> "Config":
    from pipeline.config import load_with

    given = {name: section for name, section in sections.items() if section is not None}
    return load_with(None if config is None else Path(config), given)


@contextmanager
def _work(progress: bool) -> Iterator[tuple[Callable[[str, int, int], None], Callable[[], bool]]]:
    """Show how far the work is, and stop it in good order when it is interrupted."""
    from pipeline.progress import READING, Progress
    from pipeline.signals import interruptible

    keep_compiled_private()
    with interruptible() as stop, ExitStack() as open_line:
        told = open_line.enter_context(Progress()) if progress else _say_nothing
        told(READING, 0, 1)
        yield told, stop


def _say_nothing(phase: str, done: int, total: int) -> None:
    """Take note of nothing."""
