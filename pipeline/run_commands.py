"""The commands that use what a training left: `predict` and `report`."""

import time
from pathlib import Path

import click

from pipeline.boundary import printable, process_start
from pipeline.options import as_json, example
from pipeline.progress import READING, Progress
from pipeline.report.writing import report_run
from pipeline.signals import StopFlag, leave_if


@click.command(
    epilog=example(
        "bindcache predict --run runs/first --pairs new.csv --out predictions.parquet",
        "bindcache predict --run runs/first --pairs all.csv --top 96 --out best.csv",
    )
)
@click.option("--run", type=click.Path(path_type=Path), metavar="RUN", help="Folder of a finished run.")
@click.option(
    "--ensemble", type=click.Path(path_type=Path), metavar="SWEEP", help="Folder of a sweep: its best trials."
)
@click.option("--pairs", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Table of pairs.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="File to write: .parquet, .csv or .tsv.",
)
@click.option("--top", type=click.IntRange(min=1), metavar="K", help="Only the K rows of highest prediction.")
@as_json
@click.pass_context
def predict_command(
    ctx: click.Context,
    *,
    run: Path | None,
    ensemble: Path | None,
    pairs: Path,
    out: Path,
    top: int | None,
    as_json: bool,
) -> None:
    """Predict a table with a run, or a sweep's ensemble.

    With intervals of 50, 80 and 95 %, and a warning for each row that is unlike all that was trained on.
    """
    folder = run or ensemble
    if folder is None or (run and ensemble):
        raise click.UsageError("Say with what to predict: --run RUN or --ensemble SWEEP.")
    with StopFlag() as stop, Progress() as progress:
        progress(READING, 0, 1)
        from pipeline.output import report
        from pipeline.predict import predict_pairs
        from pipeline.predict_table import predict_table

        result, table = predict_pairs(
            folder, pairs, out, ensemble=ensemble is not None, top=top, clock=_elapsed, progress=progress, stop=stop
        )
    leave_if(ctx, stop, stopped=result.stopped, way_on="run the same command again to go on")
    for note in result.notes:
        click.echo(printable(note), err=True)
    report(result.as_json(), predict_table(result, table, ranked=top is not None), as_json=as_json)


@click.command(epilog=example("bindcache report --run runs/first"))
@click.option("--run", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Finished run, or a sweep.")
@as_json
def report_command(*, run: Path, as_json: bool) -> None:
    """Write report.html of a run or a sweep again."""
    from pipeline.errors import ConfigError
    from pipeline.output import report, two_columns

    with Progress() as progress:
        written = report_run(run, progress)
    if written.path is None:
        raise ConfigError(written.note)
    report(written.as_json(), two_columns(written.place()), as_json=as_json)


def _elapsed() -> float:
    return time.time() - process_start()
