"""What is asked of Slurm: to take a script, and what became of its tasks."""

import re
import shutil
import subprocess
from pathlib import Path

from pipeline.errors import ConfigError

_GONE = "Invalid job id"
"""What squeue says of a job that Slurm has forgotten, some minutes after its end."""


def submit_script(script: Path) -> str:
    """Hand a script to sbatch; returns the number of the job.

    Raises:
        ConfigError: Slurm refused it.
    """
    done = _run("sbatch", "--parsable", str(script))
    if done.returncode:
        said = done.stderr.strip().removeprefix("sbatch: error: ") or f"exit code {done.returncode}"
        raise ConfigError(f"Slurm refused the job: {said}. Look at [cluster] in the config, and at --dry-run.")
    return done.stdout.strip().splitlines()[-1].partition(";")[0]


def refuse_without_slurm() -> None:
    """Refuse to go on where there is no Slurm.

    Raises:
        ConfigError: There is no sbatch.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "There is no sbatch here: submit on a login node of a Slurm cluster, or add --local N to run N tasks at "
            "once on this machine, or --dry-run to read the script."
        )


def refuse_too_many(count: int, option: str) -> None:
    """Refuse an array that is larger than this cluster's.

    Raises:
        ConfigError: It is.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run("scontrol", "show", "config").stdout, re.M)
    if found and count >= int(found[1]):
        most = int(found[1]) - 1
        raise ConfigError(
            f"{option} {count}: arrays of this cluster have at most {most} tasks (MaxArraySize); write {option} {most}."
        )


def tasks_in_queue(job: str) -> dict[int, tuple[str, str]] | None:
    """List the state and the reason, in Slurm's words, of every task that is not over.

    Returns:
        By task number; None where Slurm cannot be asked.
    """
    if shutil.which("squeue") is None:
        return None
    done = _run("squeue", "--noheader", "--array", f"--job={job}", "--format=%K|%T|%r")
    if done.returncode and _GONE not in done.stderr:
        return None
    lines = [line.split("|") for line in done.stdout.splitlines()]
    return {int(task): (state, reason) for task, state, reason in lines if task.isdecimal()}


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(words, 127, "", str(error))
