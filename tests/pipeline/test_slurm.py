"""The same commands through a real Slurm: a private one on this machine, started by a fixture."""

import csv
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from embed.fingerprint import find_sources
from embed.stage import read_table
from embed.work import left_to_read
from pipeline.config import load

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="no Slurm here (apt-get install slurm-wlm)"),
]
SECONDS = 120
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
ReturnToService=2
MaxArraySize=11
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""


def wait_until(true):
    """Poll; the limit is far beyond what a slow machine needs."""
    end = time.monotonic() + SECONDS
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def ask(*words):
    """What a command of Slurm says."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A one-node Slurm of two CPUs, a preempting partition and arrays of ten; runs as the user, without munge."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host, user = platform.node().partition(".")[0], ask("id", "-un").strip()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, user=user, folder=folder, ports=free_ports(2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon, "-f", str(conf)], check=True, capture_output=True)
        try:
            wait_until(lambda: ask("sinfo", "-h", "-o", "%T").split() == ["idle"])
            yield folder
        finally:
            ask("scancel", "--user", user)
            wait_until(lambda: not ask("squeue", "-h").strip())
            for daemon in ("slurmd", "slurmctld"):
                pid = int((folder / f"{daemon}.pid").read_text())
                os.kill(pid, signal.SIGTERM)
                wait_until(lambda pid=pid: not running(pid))


@pytest.fixture(autouse=True)
def no_jobs_left(slurm):
    """What one test leaves in the queue takes no CPU from the next."""
    yield
    ask("scancel", "--user", ask("id", "-un").strip())
    wait_until(lambda: not ask("squeue", "-h").strip())


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def table(demo, tmp_path):
    """A config of its own, over 480 antibodies and 8 antigens that are read one at a time into shards of 8."""
    rng = np.random.default_rng(0)

    def chain(length):
        return "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))

    antigens = [chain(60 + i) for i in range(8)]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["heavy", "light", "antigen"])
        writer.writerows([chain(120), chain(108), antigens[i % 8]] for i in range(480))
    config = tmp_path / "mine.toml"
    config.write_text(
        f'[pairs]\npath = "pairs.csv"\n[embed]\nantibody = "{demo}/igt5"\nantigen = "{demo}/esm2"\nstore = "store"\n'
        'precision = "fp32"\ntokens_per_batch = 1\nshard_rows = 8\ncompile = "off"\n[cluster]\ncpus = 1\ntime = "30"\n'
    )
    return config


@pytest.fixture
def submit(bindcache, table, monkeypatch):
    monkeypatch.chdir(table.parent)

    def submit(*words):
        result = bindcache("submit", "embed", "--config", table, "--json", *words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return submit


def hold(config, part):
    """Stop a part's process when it has published its first shard and has work left; returns its pid."""
    loaded = load(config)

    def held():
        for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = cmdline.read_bytes().split(b"\0")
            except OSError:
                continue
            if part.encode() in words and str(config).encode() in words:
                return int(cmdline.parent.name)
        return None

    pid = wait_until(held)

    def begun():
        os.kill(pid, signal.SIGSTOP)
        work = left_to_read(read_table(loaded.embed, loaded.pairs), find_sources(loaded.embed), tuple(numbers(part)))
        left, there = sum(len(missing) for missing, _ in work), sum(n for _, n in work)
        if there:
            assert left, "the part was over before it could be held"
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    wait_until(begun)
    return pid


def numbers(part):
    return map(int, part.split("/"))


def pending(pid, number):
    """Whether a signal waits for a stopped process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def is_over(job):
    return lambda: not ask("squeue", "-h", f"--job={job}").strip()


def standing(bindcache, config):
    result = bindcache("status", "--config", config, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    return told, {task["task"]: task for task in told["submissions"][-1]["tasks"]}


def stored(store):
    """Every vector by key, and how many rows the shards have in all; read without the product."""
    vectors, rows = {}, 0
    for path in store.glob("*/shards/*.h5"):
        with h5py.File(path) as shard:
            rows += len(shard["key"])
            vectors |= {key.tobytes(): vector for key, vector in zip(shard["key"][:], shard["vector"][:], strict=True)}
    return vectors, rows


def test_an_array_survives_what_clusters_do(slurm, bindcache, submit, table):
    """A part is killed, one requeued, one preempted; again with another N: the store of a single run, nothing twice."""
    job = submit("--parts", "4", "--set", "cluster.parallel=1")["job"]  # one after the other, so that none ends unheld
    os.kill(hold(table, "1/4"), signal.SIGKILL)
    hold(table, "2/4")
    ask("scontrol", "requeue", f"{job}_2")
    preempted = hold(table, "3/4")
    ask("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=true")
    wait_until(lambda: pending(preempted, signal.SIGUSR1))
    os.kill(preempted, signal.SIGCONT)
    wait_until(is_over(job))
    told, tasks = standing(bindcache, table)
    assert [tasks[i]["state"] for i in (1, 2, 3, 4)] == ["failed", "done", "done", "done"]
    assert tasks[1]["reason"].startswith("exit code 137: ")
    assert 0 < told["left"] < told["sequences"] / 4
    for part in (2, 3):
        log = (Path(told["submissions"][0]["folder"]) / f"part-{part}.log").read_text()
        assert re.findall(r"part \d of 4, start (\d)", log) == ["1", "2"]
    again = submit("--parts", "2")
    assert again["left"] == told["left"]
    wait_until(is_over(again["job"]))
    assert standing(bindcache, table)[0]["left"] == 0
    assert bindcache("embed", "--config", table, "--set", "embed.store=alone").exit_code == 0
    (vectors, rows), (alone, _) = stored(table.parent / "store"), stored(Path("alone"))
    assert rows == len(vectors) == told["sequences"]
    assert vectors.keys() == alone.keys()
    bound = 1e-5 * max(np.abs(vector).max() for vector in alone.values())
    assert max(np.abs(vectors[key] - alone[key]).max() for key in alone) <= bound


def test_a_cancelled_task_stays_cancelled(slurm, bindcache, submit, table):
    """scancel stops a part in good order, and nobody queues it again; the same submission goes on from there."""
    job = submit("--parts", "1")["job"]
    hold(table, "1/1")
    ask("scancel", job)
    wait_until(is_over(job))
    assert "JobState=CANCELLED" in ask("scontrol", "show", "job", job)
    told, tasks = standing(bindcache, table)
    assert (tasks[1]["state"], told["seconds_left"]) == ("stopped", None)
    assert 0 < told["left"] < told["sequences"]
    assert submit("--parts", "1")["left"] == told["left"]
    waits = bindcache("status", "--config", table).stdout
    assert re.search(r"part 1 (running|queued)|1 queued|1 running", waits)


def test_slurm_refuses_are_told(slurm, error, table):
    """An array beyond MaxArraySize, and a partition that is not there."""
    there = ("submit", "embed", "--config", table)
    assert error(*there, "--parts", "11") == (
        "Error: --parts 11: arrays of this cluster have at most 10 tasks (MaxArraySize); write --parts 10.\n"
    )
    said = error(*there, "--parts", "2", "--set", "cluster.partition=gpu")
    assert said.startswith("Error: Slurm refused the job: ")
    assert "invalid partition" in said
    assert not list((table.parent / "jobs").glob("*"))


SWEEP = """
[train]
run = "run"
epochs = 28
batch_size = 32
compile = "off"

[sweep]
folder = "sweep"
first_rung = 8
best = 3

[sweep.space]
lr = {log = [1e-3, 3e-2]}
widths = {choice = [[16], [32, 16]]}

[cluster]
cpus = 1
time = "30"
"""


def test_two_workers_sweep_and_one_is_killed(slurm, bindcache, config, embedded, tmp_path, monkeypatch):
    """One worker is killed with SIGKILL, the other one requeued: the study is complete, its ensemble predicts."""
    monkeypatch.chdir(tmp_path)
    text = config.read_text("utf-8").replace('path = "', f'path = "{config.parent}/').partition("[train]")[0]
    for name in ("igt5", "esm2", "store"):
        text = text.replace(f'"./{name}"', f'"{config.parent}/{name}"').replace(
            f'= "{name}"', f'= "{config.parent}/{name}"'
        )
    mine = tmp_path / "mine.toml"
    mine.write_text(text + SWEEP, "utf-8")
    submitted = bindcache("submit", "sweep", "--config", mine, "--trials", "16", "--workers", "2", "--json")
    assert submitted.exit_code == 0, submitted.output
    job = json.loads(submitted.stdout)["job"]
    trials_begun = partial(begun_trials, tmp_path / "sweep")
    wait_until(trials_begun)
    (first, *_) = sweepers(mine)
    os.kill(first, signal.SIGSTOP)  # so that it is not over before the second one begins
    before = wait_until(lambda: trials_begun() if len(sweepers(mine)) == 2 else None)
    wait_until(lambda: trials_begun() > before)
    os.kill(first, signal.SIGKILL)
    ask("scontrol", "requeue", f"{job}_2")
    ask("scontrol", "requeue", f"{job}_1")
    wait_until(is_over(job))
    trials = json.loads(bindcache("status", "--config", mine, "--json").stdout)["trials"]
    if trials["open"] or sum(trials[state] for state in ("complete", "pruned", "failed")) < 16:
        again = bindcache("submit", "sweep", "--config", mine, "--trials", "16", "--workers", "2", "--json")
        wait_until(is_over(json.loads(again.stdout)["job"]))
        trials = json.loads(bindcache("status", "--config", mine, "--json").stdout)["trials"]
    assert (trials["complete"] + trials["pruned"], trials["failed"], trials["open"]) == (16, 0, 0)
    out = tmp_path / "out.parquet"
    pairs = config.parent / "pairs.csv"
    predicted = bindcache("predict", "--ensemble", tmp_path / "sweep", "--pairs", pairs, "--out", out)
    assert predicted.exit_code == 0, predicted.output


def begun_trials(sweep):
    """The trials with an epoch behind them."""
    return {path.parent.name for path in sweep.glob("trials/*/metrics.jsonl") if path.stat().st_size}


def sweepers(config):
    """Processes of the workers that train, as they were started by the script."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"sweep" in words and str(config).encode() in words and b"submit" not in words:
            found.append(int(cmdline.parent.name))
    return sorted(found)
