"""`bindcache sweep` as its user runs it: several processes, killed, gone on with, and what predicts from it."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

SWEEP = """
[sweep]
folder = "{folder}"
first_rung = 2
best = 3

[sweep.space]
lr = {{log = [1e-3, 3e-2]}}
dropout = {{float = [0.0, 0.4]}}
widths = {{choice = [[16], [32, 16]]}}
"""


@pytest.fixture
def swept(config, embedded, tmp_path):
    """A config with a sweep of the embedded demo, its folder of its own."""
    path = config.with_name(f"sweep-{tmp_path.name}.toml")
    text = config.read_text("utf-8") + "\n" + SWEEP.format(folder=tmp_path / "sweep")
    path.write_text(text, "utf-8")
    yield path
    path.unlink()


QUICK = ("--set", "train.epochs=7", "--set", "train.compile=off", "--set", "train.batch_size=32")


def counts(folder) -> dict[str, int]:
    states = pq.read_table(folder / "sweep.parquet")["state"].to_pylist()
    return {state: states.count(state) for state in sorted(set(states))}


def test_workers_are_killed_and_the_sweep_goes_on(swept, start, tmp_path):
    """SIGKILL for all processes of the sweep at once, twice; the third time it has exactly the trials asked for."""
    command = ("sweep", "--config", swept, "--trials", "14", "--workers", "2", "--json", *QUICK)
    folder = tmp_path / "sweep"
    for enough in (1, 5):
        with start(*command) as process:
            wait_for(lambda enough=enough: len(list(folder.glob("trials/*/metrics.jsonl"))) > enough, process)
            kill_family(process)
    with start(*command) as process:
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result = json.loads(said)
    assert (result["trials"], result["failed"]) == (14, 0)
    assert sum(counts(folder).values()) == 14
    assert set(counts(folder)) <= {"complete", "pruned"}
    table = pq.read_table(folder / "sweep.parquet").to_pylist()
    for row in table:
        assert len(row["curve"]) in ((2, 6) if row["state"] == "pruned" else (7,))


def test_a_signal_saves_what_is_in_work_and_exits_75(swept, start, tmp_path):
    """SIGTERM to the command alone reaches its workers; the same command completes the sweep."""
    command = ("sweep", "--config", swept, "--workers", "2", "--json", *QUICK)
    folder = tmp_path / "sweep"
    with start(*command, "--trials", "1000") as process:  # far more than any machine ends before the signal
        wait_for(lambda: any(folder.glob("trials/*/metrics.jsonl")), process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "Stopped; run the same command again to go on." in errors
    assert not alive(folder)
    begun = len(list(folder.glob("trials/*")))
    with start(*command, "--trials", str(begun + 5)) as process:
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(said)["trials"] == begun + 5


def test_trials_are_ordinary_runs(swept, bindcache, tmp_path):
    """`predict` reads a complete one, `train --resume` brings a pruned one to its end; and the ensemble predicts."""
    result = bindcache("sweep", "--config", swept, "--trials", "8", "--workers", "1", "--json", *QUICK)
    assert result.exit_code == 0, result.stderr
    best = json.loads(result.stdout)["best"]
    folder, pairs, out = tmp_path / "sweep", swept.parent / "pairs.csv", tmp_path / "out.parquet"
    assert bindcache("predict", "--run", best[0]["run"], "--pairs", pairs, "--out", out).exit_code == 0
    single = pq.read_table(out)["prediction"].to_numpy()
    pruned = next(row for row in pq.read_table(folder / "sweep.parquet").to_pylist() if row["state"] == "pruned")
    recorded = json.loads((folder / "trials" / f"{pruned['trial']:05d}" / "config.json").read_text())["config"]
    sets = [f"train.{name}={json.dumps(value)}" for name, value in recorded["train"].items() if name != "split_values"]
    resumed = bindcache("train", "--config", swept, "--resume", *(word for each in sets for word in ("--set", each)))
    assert resumed.exit_code == 0, resumed.stderr
    assert len((folder / "trials" / f"{pruned['trial']:05d}" / "metrics.jsonl").read_text().splitlines()) == 7

    together = bindcache("predict", "--ensemble", folder, "--pairs", pairs, "--out", out)
    assert together.exit_code == 0, together.stderr
    table = pq.read_table(out)
    ends = [f"{end}_{level}" for level in (50, 80, 95) for end in ("low", "high")]
    assert table.schema.names == ["row", "id", "prediction", *ends, "spread", "warning", "reason"]
    members = []
    for each in best:
        bindcache("predict", "--run", each["run"], "--pairs", pairs, "--out", tmp_path / "one.parquet")
        members.append(pq.read_table(tmp_path / "one.parquet")["prediction"].to_numpy().astype(np.float64))
    np.testing.assert_allclose(members[0], single)
    np.testing.assert_allclose(table["prediction"], np.mean(members, axis=0), rtol=1e-6)
    np.testing.assert_allclose(table["spread"], np.std(members, axis=0), atol=1e-5)
    assert table["low_95"].null_count == len(table)
    assert "No interval of 95 %: it takes 19 validation pairs, and there are 16." in together.stderr
    for level in (50, 80):
        low, high = table[f"low_{level}"].to_numpy(), table[f"high_{level}"].to_numpy()
        assert (low < table["prediction"].to_numpy()).all()
        assert (high > table["prediction"].to_numpy()).all()


def test_mistakes_end_in_a_sentence(swept, config, error, bindcache, tmp_path):
    """No section, no store, two ways to predict: what is wrong, and the command that mends it."""
    assert "has no section [sweep]" in error("sweep", "--config", config, "--trials", "2")
    asked = ("sweep", "--config", swept, "--trials", "2", "--set", f"embed.store={tmp_path}/empty", *QUICK)
    for workers in ("1", "2"):
        said = error(*asked, "--workers", workers)
        assert "have no vector in the store" in said
        assert "`bindcache embed --config FILE` completes it" in said
        assert "Traceback" not in said
    neither = bindcache("predict", "--pairs", "x.csv", "--out", "y.parquet")
    assert neither.exit_code == 2
    assert "--run RUN or --ensemble SWEEP" in neither.stderr
    assert "the sweep has no finished trial" in error(
        "predict", "--ensemble", tmp_path, "--pairs", "x.csv", "--out", tmp_path / "y.parquet"
    )


def test_a_sweep_without_optuna_says_what_to_install(swept, start, tmp_path):
    """The extra is named."""
    (tmp_path / "optuna.py").write_text("raise ImportError('blocked')")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pipeline.cli import main; main()"
    command = [os.sys.executable, "-c", code, str(tmp_path), "sweep", "--config", str(swept), "--trials", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=os.getcwd())
    assert done.returncode == 2
    assert done.stderr == "Error: A sweep needs Optuna, which is not installed: pip install 'bindcache[sweep]'.\n"


def wait_for(condition, process, seconds=60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)


def family(folder) -> list[int]:
    """Processes whose command line names the sweep's config."""
    found = []
    for path in os.listdir("/proc"):
        if path.isdigit():
            try:
                line = Path(f"/proc/{path}/cmdline").read_bytes()
            except OSError:
                continue
            if folder.encode() in line:
                found.append(int(path))
    return found


def kill_family(process) -> None:
    """Kill the command and its workers, as the loss of power would."""
    config = str(process.args[process.args.index("--config") + 1])
    for pid in family(config):
        if pid != os.getpid():
            os.kill(pid, signal.SIGKILL)
    process.wait()


def alive(folder) -> list[int]:
    return [pid for pid in family(f"sweep-{folder.parent.name}.toml") if pid != os.getpid()]
