"""`submit` and `status` without Slurm: the script, and parts as real processes that are killed."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import h5py
import pytest

from pipeline.cluster import ClusterConfig
from pipeline.errors import ConfigError


@pytest.fixture
def mine(demo, tmp_path):
    """A config of its own over the demo's table, its antigens and antibodies read some at a time."""
    config = tmp_path / "mine.toml"
    config.write_text(
        f'[pairs]\npath = "{demo}/pairs.csv"\nid = "pair_id"\naffinity = "pkd"\n[embed]\nantibody = "{demo}/igt5"\n'
        f'antigen = "{demo}/esm2"\nstore = "store"\nprecision = "fp32"\ncompile = "off"\n'
        "tokens_per_batch = 1\nshard_rows = 4\n"
    )
    return config


def shell(script: str, tmp_path: Path) -> None:
    """Let bash read a script without running it."""
    (tmp_path / "job.sh").write_text(script)
    subprocess.run(["bash", "-n", str(tmp_path / "job.sh")], check=True)


def test_a_dry_run_prints_a_script_and_leaves_nothing(bindcache, mine, tmp_path):
    """What [cluster] says is in it, bash can read it, and no Slurm is needed."""
    sets = ["partition=gpu", "account=lab", "gres=gpu:1", "cpus=8", "memory=32G", "time=1-12", "parallel=3"]
    sets += ['lines=["--qos=long"]', 'setup=["module load cuda"]', "notice=60", "requeues=7"]
    words = [word for each in sets for word in ("--set", f"cluster.{each}")]
    result = bindcache("submit", "embed", "--config", mine, "--parts", "5", "--dry-run", *words)
    assert result.exit_code == 0, result.output
    options = re.findall(r"^#SBATCH (.*)$", result.stdout, re.M)
    expected = ["array=1-5%3", "partition=gpu", "account=lab", "gres=gpu:1", "cpus-per-task=8", "mem=32G", "time=1-12"]
    assert {f"--{each}" for each in [*expected, "qos=long", "requeue", "signal=B:USR1@60"]} <= set(options)
    assert "\nmodule load cuda\n" in result.stdout
    assert '--part "$task/5"' in result.stdout
    shell(result.stdout, tmp_path)
    swept = bindcache("submit", "sweep", "--config", mine, "--trials", "64", "--workers", "2", "--dry-run")
    assert f"bindcache sweep --config {mine} --trials 64 &" in swept.stdout
    shell(swept.stdout, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.sh", "mine.toml"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"partition": "a b"}, "partition is one word"),
        ({"memory": "lots"}, "memory is a whole number with K, M, G or T"),
        ({"cpus": 0}, "cpus is at least 1"),
        ({"time": "soon"}, "time is minutes"),
        ({"time": "1", "notice": 60}, "notice is less than cluster.time"),
        ({"lines": ("qos=long",)}, "lines holds options of sbatch"),
        ({"lines": ("--array=1-9",)}, "lines leaves --array"),
    ],
)
def test_what_slurm_would_refuse_is_refused_first(fields, said):
    """The message names the value, the rule and the way out."""
    with pytest.raises(ConfigError, match="cluster") as error:
        ClusterConfig(**fields)
    assert said in str(error.value)


def test_without_slurm_the_way_out_is_named(error, mine, monkeypatch):
    """Another place, other options."""
    monkeypatch.setenv("PATH", "")
    said = error("submit", "embed", "--config", mine, "--parts", "2")
    assert "There is no sbatch here" in said
    assert "--local N" in said
    assert "--dry-run" in said


def test_parts_run_here_and_status_tells(bindcache, mine, monkeypatch):
    """Three parts, two at a time: everything is in the store once; a second submission has nothing to do."""
    monkeypatch.chdir(mine.parent)
    before = json.loads(bindcache("status", "--config", mine, "--json").stdout)
    assert before["left"] == before["sequences"]
    assert before["submissions"] == []
    result = bindcache("submit", "embed", "--config", mine, "--parts", "3", "--local", "2", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["left"] == 0
    assert [task["state"] for task in told["tasks"]] == ["done"] * 3
    assert rows(mine.parent / "store") == before["sequences"]
    again = bindcache("submit", "embed", "--config", mine, "--parts", "3", "--local", "2")
    assert "Nothing to submit" in again.stdout
    text = bindcache("status", "--config", mine).stdout
    assert f"{before['sequences']} of {before['sequences']} sequences (100 %)" in text
    assert "3 done" in text
    assert max(len(line) for line in text.splitlines() if "/" not in line) <= 80


def test_a_killed_part_is_told_and_the_rest_is_kept(start, bindcache, mine):
    """SIGKILL for one part, SIGTERM for the command: then the same again; nothing is encoded twice but a shard."""
    command = ("submit", "embed", "--config", mine, "--parts", "2", "--local", "2")
    with start(*command) as process:
        first = wait_for(lambda: held(mine, "1/2"), process)
        wait_for(lambda: any((mine.parent / "store").glob("*/shards/*.h5")), process)
        os.kill(first, signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "part 1 of 2 failed with exit code 137" in errors
    assert "1 of 2 parts failed; run the same command again" in errors
    status = json.loads(bindcache("status", "--config", mine, "--json").stdout)
    assert [task["state"] for task in status["submissions"][-1]["tasks"]] == ["failed", "done"]
    assert 0 < status["left"] < status["sequences"]
    with start(*command) as process:
        wait_for(lambda: held(mine, "1/2"), process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "Stopped; run the same command again to go on; what is done is kept." in errors
    last = bindcache(*command)
    assert last.exit_code == 0, last.output
    assert json.loads(bindcache("status", "--config", mine, "--json").stdout)["left"] == 0
    assert rows(mine.parent / "store") == status["sequences"]


def rows(store: Path) -> int:
    """Count the rows of all shards, without the product."""
    count = 0
    for path in store.glob("*/shards/*.h5"):
        with h5py.File(path) as shard:
            count += len(shard["key"])
    return count


def held(config: Path, part: str) -> int | None:
    """Find the process of a part."""
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().split(b"\0")
        except OSError:
            continue
        if part.encode() in words and str(config).encode() in words:
            return int(cmdline.parent.name)
    return None


def wait_for(found, process, seconds=120):
    until = time.monotonic() + seconds
    while not (value := found()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)
    return value
