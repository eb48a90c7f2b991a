"""The command `bindcache`: each command parses, calls one function of a stage, and prints what it did.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import os
from pathlib import Path

import click

from pipeline.boundary import Boundary, process_start
from pipeline.compiled import keep_compiled_private
from pipeline.doctor_command import doctor_command
from pipeline.material_commands import convert_command, demo_command, import_command
from pipeline.measure_commands import bench_command, evaluate_command, fidelity_command
from pipeline.options import Part, config_options, example, profile_file
from pipeline.profile import profiled
from pipeline.progress import READING, Progress
from pipeline.report.writing import Written, report_embedding, report_run
from pipeline.run_commands import predict_command, report_command
from pipeline.signals import StopFlag, leave_if
from pipeline.store_commands import store
from pipeline.submit_commands import status_command, submit

# Threads that wait go to sleep after some microseconds: spinning beside other programs costs up to a hundredfold.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Arrow's allocator asks for huge pages: hash tables of millions of sequences miss the page tables' cache otherwise.
os.environ.setdefault("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1")
os.environ.setdefault("MIMALLOC_ALLOW_THP", "2")
keep_compiled_private()


BEGIN = (
    "bindcache demo demo",
    "bindcache embed --config demo/demo.toml",
    "bindcache train --config demo/demo.toml",
)
"""The commands to begin with."""


@click.group(
    cls=Boundary,
    name="bindcache",
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog=example(*BEGIN),
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Predict antibody-antigen binding affinity (pKd): encode each sequence once, then train on the store.

    Exit codes: 0 done, 2 usage or data, 75 stopped by a signal and resumable, 130 Ctrl-C, 1 anything else.
    """
    if ctx.invoked_subcommand is None:
        begin = "\n".join(f"  {line}" for line in BEGIN)
        click.echo(f"To begin, with a made-up table and two small encoders:\n\n{begin}\n")
        click.echo("A table of your own: README.md. All commands: bindcache --help")


main.add_command(demo_command)


@main.command(epilog=example("bindcache embed --config mine.toml", "bindcache embed --config mine.toml --part 3/8"))
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
        progress(READING, 0, 1)
        result = run_embed(config.embed, config.pairs, part=part, started=process_start(), progress=watch, stop=stop)
        written = Written(path=None) if result.stopped else report_embedding(config, result, progress)
    _warn(result.warnings)
    leave_if(
        ctx,
        stop,
        stopped=result.stopped,
        way_on="run the same command again to go on; what is embedded is kept",
    )
    _tell(written)
    values = {**result.as_json(), **written.as_json()}
    report(values, embed_table(values), as_json=as_json)


@main.command(
    epilog=example(
        "bindcache train --config mine.toml",
        "bindcache train --config mine.toml --set 'train.widths=[2048, 512]'",
    )
)
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
        progress(READING, 0, 1)
        from pipeline.config import load
        from pipeline.output import report
        from pipeline.train_table import train_table
        from pipeline.training import is_finished, train_from_store

        config = load(path, overrides)
        finished = resume and is_finished(config)
        watch = recorded(progress)
        result, written = train_from_store(
            config, path, resume=resume, started=process_start(), progress=watch, stop=stop
        )
    leave_if(ctx, stop, stopped=result.stopped, way_on="run the same command with --resume to go on")
    if finished:
        click.echo("This run was finished before; nothing was trained.", err=True)
    _tell(written)
    values = {**result.as_json(), **written.as_json()}
    places = [
        ("run", values["run"]),
        ("predictions", f"{values['run']}/predictions.parquet"),
        *written.place(),
        ("store", config.embed.store),
    ]
    report(values, train_table(values, places), as_json=as_json)


@main.command(epilog=example("bindcache sweep --config mine.toml --trials 64"))
@config_options
@click.option("--trials", type=click.IntRange(min=1), required=True, metavar="N", help="Trials in all.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    metavar="W",
    help="Processes that work on it; 0: one for each processor, or each GPU.",
)
@click.option("--parent", type=int, default=0, hidden=True, help="Process without which this one stops.")
@click.pass_context
def sweep_command(
    ctx: click.Context,
    *,
    path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    trials: int,
    workers: int,
    parent: int,
) -> None:
    """Search the regressor's settings; nothing is encoded.

    Each trial is an ordinary run; bad ones end early. The same command goes on where it was stopped or killed, and
    may run on several machines at once, on one shared folder.
    """
    from pipeline.config import load
    from pipeline.output import report
    from pipeline.sweep import sweep, worker_command
    from pipeline.sweep_table import sweep_table

    sets = [word for override in overrides for word in ("--set", override)]
    command = worker_command(["--config", str(path), "--trials", str(trials), *sets])
    with StopFlag() as flag, Progress() as progress:

        def stop() -> bool:
            return flag() or (parent != 0 and os.getppid() != parent)

        progress(READING, 0, 1)
        result = sweep(
            load(path, overrides), path, trials=trials, workers=workers, command=command, progress=progress, stop=stop
        )
        alone = not (result.stopped or parent)
        written = report_run(Path(result.folder), progress) if alone else Written(path=None)
    leave_if(ctx, flag, stopped=result.stopped, way_on="run the same command again to go on")
    _tell(written)
    report({**result.as_json(), **written.as_json()}, sweep_table(result, written.place()), as_json=as_json)


main.add_command(evaluate_command)
main.add_command(fidelity_command)
main.add_command(bench_command)


main.add_command(predict_command)
main.add_command(report_command)
main.add_command(doctor_command)
main.add_command(import_command)
main.add_command(submit)
main.add_command(status_command)
main.add_command(store)
main.add_command(convert_command)


def _tell(written: Written) -> None:
    if written.note:
        click.echo(written.note, err=True)


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
