"""A real training process, killed with SIGKILL at random steps, ends in the unbroken run's very weights."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from train.checkpoint import newest_state
from train.rundir import RunDir

TRAIN = """
import os, signal, sys
from pathlib import Path

import torch

from embed.pairs import PairsConfig, read_pairs
from train.config import TrainConfig
from train.dataset import VectorFolders
from train.stage import run_train

torch.set_num_threads(1)
table_path, antibodies, antigens = map(Path, sys.argv[1:4])
table = read_pairs(PairsConfig(path=table_path, affinity="pkd"))
folders = VectorFolders(paired=antibodies, single=antibodies, antigen=antigens)


def train(root, kill_at):
    # A fork has the imports done; it is a process of its own all the same.
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]

    def progress(phase, done, total):
        if phase == "training" and done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    config = TrainConfig(
        run=Path(root), widths=(32, 16), batch_size=16, accumulation=2, epochs=6, lr=1e-2, dropout=0.3,
        checkpoint_every=3, compile="off",
    )
    run_train(config, table, folders, resolved={}, resume=True, progress=progress)
    os._exit(0)


for line in sys.stdin:
    root, kill_at = line.split()
    print(train(root, int(kill_at)), flush=True)
"""


def history_of(run: RunDir) -> list[dict]:
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def equal(left: object, right: object) -> bool:
    """Compare nested states, tensors bit by bit; how long an epoch took may differ."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left if k != "seconds")
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


@pytest.mark.parametrize("vectors", ["planted", "planted_residues"])
def test_killed_runs_end_in_the_same_bytes(request, tmp_path, vectors) -> None:
    """Killed before the first checkpoint, in the middle of epochs and at their ends; dropout is on."""
    source = request.getfixturevalue(vectors)(301)
    command = [sys.executable, "-c", TRAIN, str(source.path)]
    command += [str(source.folders.paired), str(source.folders.antigen)]
    random = np.random.default_rng(7)
    kills = [1, *np.sort(random.choice(np.arange(2, 48), 4, replace=False)).tolist(), 48, 0]
    jobs = [("unbroken", 0), *(("killed", kill) for kill in kills)]
    lines = "".join(f"{tmp_path / name} {kill}\n" for name, kill in jobs)
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120
    )
    statuses = [int(line) for line in done.stdout.split()]
    assert statuses == [0, *[signal.SIGKILL] * (len(kills) - 1), 0], done.stderr

    unbroken, killed = RunDir(tmp_path / "unbroken"), RunDir(tmp_path / "killed")
    assert killed.weights.read_bytes() == unbroken.weights.read_bytes()
    assert killed.predictions.read_bytes() == unbroken.predictions.read_bytes()
    assert equal(newest_state(killed), newest_state(unbroken))
    assert history_of(killed) == history_of(unbroken)
    assert [line["epoch"] for line in history_of(killed)] == [1, 2, 3, 4, 5, 6]
    results = [json.loads(run.result.read_text()) for run in (killed, unbroken)]
    for name in ("valid", "test", "baselines", "epochs", "best_epoch"):
        assert results[0][name] == results[1][name]
