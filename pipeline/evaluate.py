"""`bindcache evaluate`: folds and seeds as ordinary runs, and what they say together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed.fingerprint import find_sources
from embed.stage import read_table
from pipeline.config import Config, resolved, train_section
from pipeline.output import columns, interval_text, score_text, two_columns
from pipeline.training import pinned, vector_folders_of

if TYPE_CHECKING:
    from train.evaluation import EvaluationResult

_NEAR = {"near_antibody": "by heavy chain", "near_antigen": "by antigen"}


def evaluate_from_store(
    config: Config,
    path: Path,
    *,
    folds: int | None,
    seeds: int,
    progress: Callable[[str, int, int], None],
    stop: Callable[[], bool],
) -> "EvaluationResult":
    """Train and test on each fold of a table, with each seed; the same command goes on where it was stopped.

    Args:
        config: The whole config.
        path: The file it came from, for errors.
        folds: Folds; None: as `train.folds` says.
        seeds: Seeds, from `train.seed` on.
        progress: Told the runs done.
        stop: Polled at each step.

    Raises:
        ConfigError: The config has no section [train].
        EmbedError: The table, an encoder or the store cannot be used as it is.
        TrainError: Vectors are missing, the table cannot be dealt into folds, or a run cannot be gone on with.
    """
    train = train_section(config, path)
    table = read_table(config.embed, config.pairs)
    sources = find_sources(config.embed)
    whole = pinned(config, sources)
    from train.evaluation import run_folds

    return run_folds(
        train,
        table,
        vector_folders_of(sources),
        folds=train.folds if folds is None else folds,
        seeds=seeds,
        resolved=lambda own: resolved(replace(whole, train=own)),
        progress=progress,
        stop=stop,
    )


def evaluation_table(result: dict[str, Any]) -> str:
    """Lay out mean and interval of each metric, of the regressor and the baselines on the same folds."""
    header = (f"mean of {result['folds']} folds", "Spearman", "95 %", "RMSE", "95 %", "R2")
    rows = [
        (name, *_cells(each["spearman"]), *_cells(each["rmse"]), score_text(each["r2"]["mean"]))
        for name, each in result["scores"].items()
    ]
    pooled = result["pooled"]
    facts: list[tuple[str, object]] = [
        ("pairs", f"{result['pairs']:,}, each tested once"),
        ("split", result["split"]),
        ("pooled Spearman", f"{score_text(pooled['spearman'])}, {interval_text(pooled['spearman_ci'])}"),
    ]
    facts += [
        (f"Spearman per {role}", f"{found['mean']:.3f} ({found['groups']:,} with {found['least']}+)")
        for role, found in result["within"].items()
        if found["groups"]
    ]
    near = ", ".join(f"{result['seen'][name]:.0%} {words}" for name, words in _NEAR.items())
    facts.append(("near in training", f"{near} of the test pairs"))
    spread = result["scores"]["regressor"]["spearman"]["sd_seeds"]
    if spread is not None:
        facts.append(("seeds", f"{result['seeds']}; Spearman differs by sd {spread:.3f} between them"))
    facts += [("runs", result["folder"]), ("predictions", f"{result['folder']}/out_of_fold.parquet")]
    return f"{columns(header, rows)}\n\n{two_columns(facts)}"


def _cells(summary: dict[str, Any]) -> tuple[str, str]:
    return score_text(summary["mean"]), interval_text(summary["ci"])
