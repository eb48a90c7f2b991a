"""The sbatch script of a submission: plain shell that its reader may change and submit by hand."""

import shlex
import sys
from pathlib import Path

from pipeline.cluster import ClusterConfig
from pipeline.signals import STOPPED
from pipeline.submission import SubmissionDir, Tasks, start_line

_SCRIPT = """\
#!/bin/bash
# Written by `bindcache submit {kind}`. Each task of the array is one {word} and goes on where it was stopped.
{options}

# The bindcache that wrote this script, unless the lines of cluster.setup bring another.
export PATH={path}:"$PATH"
{setup}
# Encoders were fetched when this was submitted; shards never change, so they need no locks.
export HF_HUB_OFFLINE=1 HDF5_USE_FILE_LOCKING=FALSE OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}"
# Compiled code goes to the node's own disk, to a folder of this task alone.
[ -w "${{TMPDIR:-}}" ] || export TMPDIR=/tmp
export TORCHINDUCTOR_CACHE_DIR="$TMPDIR/bindcache-$SLURM_JOB_ID"
trap 'rm -rf "$TORCHINDUCTOR_CACHE_DIR"' EXIT

task=$SLURM_ARRAY_TASK_ID
code_file={code_file}
rm -f "$code_file"
echo "{start_line}"

# Slurm warns this shell alone, with USR1 before the time limit or TERM; the command must hear of it.
child= told=
trap 'told=yes; kill -USR1 "$child" 2>/dev/null' USR1 TERM
{command} &
child=$!
while kill -0 "$child" 2>/dev/null; do wait "$child"; done  # a signal ends a wait before its time
wait "$child"
code=$?
# Told before it listened: it had begun nothing.
[ "$told" ] && case $code in 138 | 143) code={stopped} ;; esac
echo "$code" >"$code_file"

# {stopped}: stopped and resumable. What is no longer RUNNING is being cancelled, or queued again by Slurm itself.
if [ "$code" = {stopped} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then
  me="${{SLURM_ARRAY_JOB_ID}}_$task"
  [ "$(squeue --noheader --job="$me" --format=%T)" = RUNNING ] && scontrol requeue "$me"
fi
exit "$code"
"""


def sbatch_script(cluster: ClusterConfig, tasks: Tasks, place: SubmissionDir) -> str:
    """Write the script.

    Args:
        cluster: What Slurm is asked for.
        tasks: What is run.
        place: Where logs and exit codes go.
    """
    when = "$(date +%Y-%m-%dT%H:%M:%S%z)"
    begun = "$((${SLURM_RESTART_COUNT:-0} + 1))"
    return _SCRIPT.format(
        kind=tasks.kind,
        word=tasks.word,
        options="\n".join(f"#SBATCH {option}" for option in _options(cluster, tasks, place)),
        path=shlex.quote(str(Path(sys.executable).parent)),
        setup="".join(f"{line}\n" for line in cluster.setup),
        code_file=shlex.quote(str(place.root)) + f'/{tasks.word}-"$task".code',
        start_line=start_line(tasks.word, "$task", tasks.count, begun, "$(hostname)", when),
        command=tasks.shell("$task"),
        stopped=STOPPED,
        requeues=cluster.requeues,
    )


def _options(cluster: ClusterConfig, tasks: Tasks, place: SubmissionDir) -> list[str]:
    limit = f"%{cluster.parallel}" if cluster.parallel else ""
    asked = {
        "partition": cluster.partition,
        "account": cluster.account,
        "gres": cluster.gres,
        "cpus-per-task": str(cluster.cpus),
        "mem": cluster.memory,
        "time": cluster.time,
    }
    # sbatch reads % as the beginning of a pattern, and quotes as a shell does.
    log = str(place.root).replace("%", "%%") + f"/{tasks.word}-%a.log"
    return [
        f"--job-name=bindcache-{tasks.kind}",
        f"--array=1-{tasks.count}{limit}",
        *(f"--{option}={value}" for option, value in asked.items() if value),
        f"--chdir={_quoted(str(Path.cwd()))}",
        f"--output={_quoted(log)}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{cluster.notice}",
        *cluster.lines,
    ]


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text
