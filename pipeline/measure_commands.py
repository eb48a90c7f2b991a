"""The commands that measure: how good a regressor is on unseen pairs, and what precisions and optimisations do."""

from pathlib import Path

import click

from pipeline.options import config_options, demo_options, example
from pipeline.progress import Progress
from pipeline.signals import StopFlag, leave_if


@click.command(epilog=example("bindcache evaluate --config mine.toml --folds 5 --seeds 3"))
@config_options
@click.option("--folds", type=click.IntRange(min=3), metavar="K", help="Folds; train.folds unless given.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings of each fold.")
@click.pass_context
def evaluate_command(
    ctx: click.Context, *, path: Path, overrides: tuple[str, ...], as_json: bool, folds: int | None, seeds: int
) -> None:
    """Test every pair once, trained on others as train.split deals them.

    Each fold and seed is an ordinary run in the folder RUN-folds, scored beside the baselines on the same folds; means
    have intervals. The same command goes on where it was stopped.
    """
    from pipeline.config import load
    from pipeline.evaluate import evaluate_from_store, evaluation_table
    from pipeline.output import report

    with StopFlag() as stop, Progress() as progress:
        result = evaluate_from_store(
            load(path, overrides), path, folds=folds, seeds=seeds, progress=progress, stop=stop
        )
    leave_if(ctx, stop, stopped=result.stopped, way_on="run the same command again to go on")
    report(result.as_json(), evaluation_table(result.as_json()), as_json=as_json)


@click.command(epilog=example("bindcache fidelity --config mine.toml --sample 5000"))
@config_options
@click.option("--sample", type=click.IntRange(min=3), default=2000, show_default=True, help="Pairs, at most.")
@click.option("--train", is_flag=True, help="Also train the regressor on the vectors of each precision, three times.")
def fidelity_command(*, path: Path, overrides: tuple[str, ...], as_json: bool, sample: int, train: bool) -> None:
    """Measure what each precision does to your own pairs.

    A sample of the pairs is encoded in every precision that this machine has, and compared with fp32: error,
    neighbours, speed, and what the same ridge regression still reads from the vectors. The vectors in
    the store are left alone; where there is a store, it keeps the result for the reports.
    """
    from pipeline.config import load, train_section
    from pipeline.output import report

    config = load(path, overrides)
    training = train_section(config, path) if train else None
    from pipeline.fidelity import measure_fidelity
    from pipeline.fidelity_table import fidelity_table

    with Progress() as progress:
        result = measure_fidelity(config, sample=sample, train=training, progress=progress)
    report(result.as_json(), fidelity_table(result), as_json=as_json)


@click.command(epilog=example("bindcache bench --ladder --config mine.toml"))
@demo_options
@click.option("--ablate", is_flag=True, help="Take each optimisation alone away from the product.")
@click.option("--ladder", is_flag=True, help="Add one after the other to the naive loop, and at last the store.")
@click.option("--sample", type=click.IntRange(min=3), default=2000, show_default=True, help="Pairs, at most.")
def bench_command(
    *, path: Path | None, overrides: tuple[str, ...], as_json: bool, ablate: bool, ladder: bool, sample: int
) -> None:
    """Measure what each of ten optimisations is worth here.

    Seconds, memory, fidelity of the vectors and the regressor's validation score, each row in a process of its own;
    some minutes for each of the two tables.
    """
    if not (ablate or ladder):
        raise click.UsageError("Say what to measure: --ablate, --ladder, or both.")
    from pipeline.bench.command import run_bench
    from pipeline.output import report

    with Progress() as progress:
        result, table = run_bench(path, overrides, sample=sample, ablate=ablate, climb=ladder, progress=progress)
    report(result, table, as_json=as_json)
