"""`bindcache submit` and `bindcache status`: many tasks at once, and how they stand."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.errors import ConfigError
from pipeline.options import config_options, example
from pipeline.signals import StopFlag

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.coverage import Coverage
    from pipeline.submission import Tasks

_SHOWN = 12
"""Failures that are told one by one."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _way(command: _Command) -> _Command:
    local = click.option(
        "--local", type=click.IntRange(min=1), metavar="N", help="Run them here, N at a time, and wait for the end."
    )
    dry = click.option("--dry-run", is_flag=True, help="Print the script, and do nothing else.")
    return dry(local(command))


@click.group(epilog=example("bindcache submit embed --config mine.toml --parts 16"))
def submit() -> None:
    """Run as a Slurm array, or as processes here."""


@submit.command(
    epilog=example(
        "bindcache submit embed --config mine.toml --parts 16 --dry-run",
        "bindcache submit embed --config mine.toml --parts 16",
        "bindcache submit embed --config mine.toml --parts 16 --local 2",
    )
)
@config_options
@click.option("--parts", type=click.IntRange(min=1), required=True, metavar="N", help="Shares of the sequences.")
@_way
@click.pass_context
def embed_command(
    ctx: click.Context,
    *,
    path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    parts: int,
    local: int | None,
    dry_run: bool,
) -> None:
    """Encode in N parts, each a task of its own."""
    from pipeline.submission import Tasks

    tasks = Tasks(kind="embed", count=parts, config=path, overrides=overrides)
    _submit(ctx, tasks, local=local, dry_run=dry_run, as_json=as_json)


@submit.command(epilog=example("bindcache submit sweep --config mine.toml --trials 200 --workers 8"))
@config_options
@click.option("--trials", type=click.IntRange(min=1), required=True, metavar="T", help="Trials, of all workers.")
@click.option("--workers", type=click.IntRange(min=1), required=True, metavar="N", help="Workers that share them.")
@_way
@click.pass_context
def sweep_command(
    ctx: click.Context,
    *,
    path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    trials: int,
    workers: int,
    local: int | None,
    dry_run: bool,
) -> None:
    """Sweep with N workers on one study."""
    from pipeline.submission import Tasks

    tasks = Tasks(kind="sweep", count=workers, config=path, overrides=overrides, trials=trials)
    _submit(ctx, tasks, local=local, dry_run=dry_run, as_json=as_json)


@click.command(epilog=example("bindcache status --config mine.toml"))
@config_options
def status_command(path: Path, overrides: tuple[str, ...], *, as_json: bool) -> None:
    """Tell what is done, what runs, and how long it takes."""
    from pipeline.config import load
    from pipeline.output import report
    from pipeline.status import read_status, status_table

    status = read_status(load(path, overrides), path)
    report(status.as_json(), status_table(status), as_json=as_json)


def _submit(ctx: click.Context, tasks: "Tasks", *, local: int | None, dry_run: bool, as_json: bool) -> None:
    from pipeline.config import load
    from pipeline.output import report

    if dry_run and local:
        raise click.UsageError("--dry-run prints the script for Slurm, and --local needs none: leave one out.")
    config = load(tasks.config, tasks.overrides)
    if dry_run:
        from pipeline.submit import dry_script

        script = dry_script(config.cluster, tasks)
        report({"script": script}, script.rstrip("\n"), as_json=as_json)
        return
    from pipeline.slurm import refuse_without_slurm

    if not local:
        refuse_without_slurm()
    from pipeline.coverage import read_coverage
    from pipeline.status import coverage_text

    coverage = read_coverage(config)
    if tasks.kind == "sweep" and coverage.left:
        _tell_incomplete(tasks, coverage, local=local)
    if tasks.kind == "embed" and not coverage.left:
        nothing = f"Nothing to submit: the store holds {coverage_text(coverage)}."
        report({"submitted": False, "left": 0}, nothing, as_json=as_json)
    elif local:
        _run_here(ctx, config, tasks, coverage, local, as_json=as_json)
    else:
        _hand_over(config, tasks, coverage, as_json=as_json)


def _tell_incomplete(tasks: "Tasks", coverage: "Coverage", *, local: int | None) -> None:
    """Refuse a sweep of vectors that are not there, or where it waits in a queue say what has to come first."""
    lacks = (
        f"{coverage.left:,} of {coverage.sequences:,} sequences are not in the store, and a sweep never encodes: "
        f"`bindcache embed --config {tasks.config}` completes it, or `bindcache submit embed`"
    )
    if local:
        raise ConfigError(f"{lacks}.")
    click.echo(f"Warning: {lacks}; workers that begin before that stop at once.", err=True)


def _hand_over(config: "Config", tasks: "Tasks", coverage: "Coverage", *, as_json: bool) -> None:
    from dataclasses import asdict

    from pipeline.output import report
    from pipeline.submit import submit_tasks, submitted_table

    submitted = submit_tasks(config, tasks, coverage)
    table = submitted_table(submitted, config.cluster, coverage, tasks.watch)
    record = asdict(submitted.submission) | {"folder": str(submitted.place.root)}
    report({"submitted": True, "left": coverage.left} | record, table, as_json=as_json)


def _run_here(
    ctx: click.Context, config: "Config", tasks: "Tasks", coverage: "Coverage", at_once: int, *, as_json: bool
) -> None:
    from dataclasses import asdict

    from pipeline.coverage import read_coverage
    from pipeline.output import report
    from pipeline.standing import standings
    from pipeline.submit import ran_table, run_here

    def say(text: str) -> None:
        click.echo(text, err=True)

    with StopFlag("telling all tasks to stop") as stop:
        submitted = run_here(config, tasks, coverage, at_once=at_once, say=say, stop=stop)
    ended = standings(*submitted)
    after = read_coverage(config)
    record = asdict(submitted.submission) | {"folder": str(submitted.place.root)}
    told = {"submitted": True, "left": after.left} | record | {"tasks": [asdict(task) for task in ended]}
    report(told, ran_table(submitted, ended, after), as_json=as_json)
    failed = [task for task in ended if task.state == "failed"]
    for task in failed[:_SHOWN]:
        say(f"Error: {tasks.word} {task.task}: {task.reason}")
    if stop():
        say("Stopped; run the same command again to go on; what is done is kept.")
        ctx.exit(stop.exit_code)
    if any(task.state != "done" for task in ended):
        say(f"{len(failed):,} of {tasks.count:,} {tasks.word}s failed; run the same command again to do what is left.")
        ctx.exit(1)
