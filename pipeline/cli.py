"""The command `bindcache`: each command parses, calls one function of a stage, and prints what it did.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import os
import time
from pathlib import Path

import click

from pipeline.boundary import Boundary, process_start
from pipeline.options import Part, as_json, config_options, demo_options, out_file, profile_file
from pipeline.profile import profiled
from pipeline.progress import Progress
from pipeline.signals import StopFlag
from pipeline.store_commands import store

# Threads that wait go to sleep after some microseconds: spinning beside other programs costs up to a hundredfold.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@click.group(cls=Boundary, name="bindcache", context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Predict antibody-antigen binding affinity (pKd): encode each sequence once, then train on the store.

    \b
    bindcache demo DIR
    bindcache embed --config DIR/demo.toml
    bindcache train --config DIR/demo.toml

    Exit codes: 0 done, 2 usage or data, 75 stopped by a signal and resumable, 130 Ctrl-C, 1 anything else.
    """  # noqa: D301 - \b is the character by which click leaves lines as they are


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@as_json
def demo_command(folder: Path, *, as_json: bool) -> None:
    """Write a table, two small encoders and a config to DIR."""
    from pipeline.demo import write_demo
    from pipeline.output import report, two_columns

    config = write_demo(folder)
    table = two_columns([("config", config), ("next", f"bindcache embed --config {config}")])
    report({"config": str(config.resolve())}, table, as_json=as_json)


@main.command()
@config_options
@click.option("--part", type=Part(), default="1/1", help="Only the i-th of N shares of the distinct sequences.")
@profile_file
@click.pass_context
def embed_command(
    ctx: click.Context,
    *,
    path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    part: tuple[int, int],
    profile: Path | None,
) -> None:
    """Encode what the store does not hold yet."""
    from embed.stage import run_embed
    from pipeline.config import load
    from pipeline.output import embed_table, report

    config = load(path, overrides)
    idle = "nothing was left to encode; name an empty store, as in --set embed.store=DIR"
    with StopFlag() as stop, profiled(profile, idle=idle) as recorded, Progress() as progress:
        watch = recorded(progress)
        result = run_embed(config.embed, config.pairs, part=part, started=process_start(), progress=watch, stop=stop)
    _warn(result.warnings)
    _leave_if(
        ctx,
        stop,
        stopped=result.stopped,
        way_on="run the same command again to go on; what is embedded is kept",
    )
    report(result.as_json(), embed_table(result.as_json()), as_json=as_json)


@main.command()
@config_options
@click.option("--resume", is_flag=True, help="Go on with the run; start it if it is new; do nothing if it is finished.")
@profile_file
@click.pass_context
def train_command(
    ctx: click.Context, *, path: Path, overrides: tuple[str, ...], as_json: bool, resume: bool, profile: Path | None
) -> None:
    """Train a regressor on the vectors in the store."""
    idle = "nothing was left to train; name a new run, as in --set train.run=DIR"
    with StopFlag() as stop, profiled(profile, idle=idle) as recorded, Progress() as progress:
        from pipeline.config import load
        from pipeline.output import report, train_table
        from pipeline.training import is_finished, train_from_store

        config = load(path, overrides)
        finished = resume and is_finished(config)
        watch = recorded(progress)
        result = train_from_store(config, path, resume=resume, started=process_start(), progress=watch, stop=stop)
    _leave_if(ctx, stop, stopped=result.stopped, way_on="run the same command with --resume to go on")
    if finished:
        click.echo("This run was finished before; nothing was trained.", err=True)
    values = result.as_json()
    places = [
        ("run", values["run"]),
        ("predictions", f"{values['run']}/predictions.parquet"),
        ("store", config.embed.store),
    ]
    report(values, train_table(values, places), as_json=as_json)


@main.command()
@config_options
@click.option("--sample", type=click.IntRange(min=3), default=2000, show_default=True, help="Pairs, at most.")
@click.option("--train", is_flag=True, help="Also train the regressor on the vectors of each precision, three times.")
def fidelity_command(*, path: Path, overrides: tuple[str, ...], as_json: bool, sample: int, train: bool) -> None:
    """Measure what each precision does to your own pairs.

    A sample of the pairs is encoded in every precision that this machine has, and compared with fp32: error,
    neighbours, speed, and what the same ridge regression still reads from the vectors. The store is left alone.

    \b
    bindcache fidelity --config mine.toml --sample 5000
    """  # noqa: D301 - \b is the character by which click leaves lines as they are
    from pipeline.config import load, train_section
    from pipeline.output import report

    config = load(path, overrides)
    training = train_section(config, path) if train else None
    from pipeline.fidelity import measure_fidelity
    from pipeline.fidelity_table import fidelity_table

    with Progress() as progress:
        result = measure_fidelity(config, sample=sample, train=training, progress=progress)
    report(result.as_json(), fidelity_table(result), as_json=as_json)


@main.command()
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

    \b
    bindcache bench --ladder --config mine.toml
    """  # noqa: D301 - \b is the character by which click leaves lines as they are
    if not (ablate or ladder):
        raise click.UsageError("Say what to measure: --ablate, --ladder, or both.")
    from pipeline.bench.command import run_bench
    from pipeline.output import report

    with Progress() as progress:
        result, table = run_bench(path, overrides, sample=sample, ablate=ablate, climb=ladder, progress=progress)
    report(result, table, as_json=as_json)


@main.command()
@click.option("--run", type=click.Path(path_type=Path), required=True, metavar="RUN", help="Folder of a finished run.")
@click.option("--pairs", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Table of pairs.")
@out_file
@as_json
@click.pass_context
def predict_command(ctx: click.Context, *, run: Path, pairs: Path, out: Path, as_json: bool) -> None:
    """Predict a table with a finished run."""
    with StopFlag() as stop, Progress() as progress:
        from dataclasses import asdict

        from pipeline.output import report, two_columns
        from pipeline.predict import predict_table

        result = asdict(predict_table(run, pairs, out, clock=_elapsed, progress=progress, stop=stop))
    _leave_if(ctx, stop, stopped=result.pop("stopped"), way_on="run the same command again to go on")
    table = result | {"seconds": f"{result['seconds']:.1f}"}
    report(result, two_columns(table.items()), as_json=as_json)


main.add_command(store)


@main.command()
@click.argument("model", metavar="ID")
@click.option("--revision", default="", metavar="R", help="Commit, tag or branch on the hub.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write.")
@as_json
def convert_command(model: str, *, revision: str, out: Path, as_json: bool) -> None:
    """Turn pickled weights into safetensors."""
    from dataclasses import asdict

    from embed.encoders.convert import convert
    from pipeline.config import model_named
    from pipeline.output import report, two_columns

    result = asdict(convert(model_named(model), revision, out)) | {"out": str(out)}
    facts = [(name, value) for name, value in result.items() if name != "digests"]
    report(result, two_columns([*facts, *result["digests"].items()]), as_json=as_json)


def _elapsed() -> float:
    return time.time() - process_start()


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


def _leave_if(ctx: click.Context, stop: StopFlag, *, stopped: bool, way_on: str) -> None:
    if stopped:
        click.echo(f"Stopped; {way_on}.", err=True)
        ctx.exit(stop.exit_code)
