"""`bindcache submit`: the commands of both stages as many tasks, through Slurm or on this machine."""

import os
import shutil
import time
from collections.abc import Callable
from typing import NamedTuple

from pipeline.cluster import ClusterConfig
from pipeline.config import Config
from pipeline.coverage import Coverage
from pipeline.errors import ConfigError
from pipeline.local import run_tasks
from pipeline.output import two_columns
from pipeline.script import sbatch_script
from pipeline.slurm import refuse_too_many, submit_script
from pipeline.standing import Standing
from pipeline.status import counts_text, coverage_text
from pipeline.submission import Submission, SubmissionDir, Tasks, new_submission, write_record


class Submitted(NamedTuple):
    """A submission and its folder."""

    place: SubmissionDir
    submission: Submission


def dry_script(cluster: ClusterConfig, tasks: Tasks) -> str:
    """Write the script that `submit_tasks` would hand to Slurm, and leave everything as it is."""
    return sbatch_script(cluster, tasks, new_submission(cluster.folder, tasks.kind))


def submit_tasks(config: Config, tasks: Tasks, coverage: Coverage) -> Submitted:
    """Hand the tasks to Slurm as one array.

    Args:
        config: The whole config.
        tasks: What is run.
        coverage: What the store lacks now, for the estimate to the end.

    Raises:
        ConfigError: Slurm refuses.
    """
    refuse_too_many(tasks.count, "--parts" if tasks.kind == "embed" else "--workers")
    place = new_submission(config.cluster.folder, tasks.kind)
    place.root.mkdir(parents=True)
    place.script.write_text(sbatch_script(config.cluster, tasks, place))
    place.script.chmod(0o755)
    try:
        job = submit_script(place.script)
    except ConfigError:
        shutil.rmtree(place.root)
        raise
    return Submitted(place, _record(place, tasks, coverage, job=job))


def run_here(
    config: Config,
    tasks: Tasks,
    coverage: Coverage,
    *,
    at_once: int,
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> Submitted:
    """Run the tasks on this machine, `at_once` at a time, to their ends.

    Args:
        config: The whole config.
        tasks: What is run.
        coverage: What the store lacks now, for the estimate to the end.
        at_once: Processes at a time.
        say: Told where the logs are, and each end.
        stop: Polled; when true, all are told to stop, and this returns when they have.
    """
    place = new_submission(config.cluster.folder, tasks.kind)
    place.root.mkdir(parents=True)
    submitted = Submitted(place, _record(place, tasks, coverage))
    say(f"logs: {place.log('*')}")
    run_tasks(tasks, place, at_once=at_once, requeues=config.cluster.requeues, say=say, stop=stop)
    return submitted


def submitted_table(submitted: Submitted, cluster: ClusterConfig, coverage: Coverage, watch: str) -> str:
    """Say what was handed to Slurm, how to watch it, and how to take it back."""
    place, submission = submitted
    at_once = f", at most {cluster.parallel} at a time" if cluster.parallel else ""
    return two_columns(
        [
            ("job", f"{submission.job}: {submission.count:,} {place.word}s{at_once}"),
            ("store", f"holds {coverage_text(coverage)}"),
            ("script", place.script),
            ("logs", place.log("*")),
            ("watch", watch),
            ("", f"squeue --job {submission.job}"),
            ("cancel", f"scancel {submission.job}"),
        ]
    )


def ran_table(submitted: Submitted, tasks: list[Standing], coverage: Coverage) -> str:
    """Say how the tasks ended that ran on this machine."""
    rows = [(f"{submitted.place.word}s", counts_text(tasks)), ("store", f"holds {coverage_text(coverage)}")]
    return two_columns([*rows, ("logs", submitted.place.log("*"))])


def _record(place: SubmissionDir, tasks: Tasks, coverage: Coverage, *, job: str = "") -> Submission:
    submission = Submission(
        kind=tasks.kind,
        count=tasks.count,
        config=os.path.abspath(tasks.config),
        way="slurm" if job else "local",
        submitted=time.time(),
        residues_left=coverage.residues_left,
        job=job,
    )
    write_record(place, submission)
    return submission
