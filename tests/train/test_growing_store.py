"""A training reads its vectors from a store that other processes go on filling."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.config import TrainConfig
from train.rundir import RunDir
from train.stage import run_train

GROW = """
import sys
from pathlib import Path
import numpy as np
from embed.store.folder import read_fingerprint
from embed.store.writer import ShardWriter

random = np.random.default_rng(7)
folders = {Path(sys.argv[1]): 6, Path(sys.argv[2]): 5}
while True:
    for folder, dim in folders.items():
        with ShardWriter(folder, fingerprint=read_fingerprint(folder).digest, dim=dim) as writer:
            key_N16 = random.integers(0, 256, (64, 16), np.uint8)
            writer.add(key_N16, random.normal(size=(64, dim)).astype(np.float32), np.ones(64, np.int32))
    print("published", flush=True)
"""


@pytest.mark.parametrize("placement", ["device", "mapped"])
def test_a_growing_store_changes_nothing(planted, tmp_path, placement, figure):
    """The run ends with the weights and predictions of one that nobody disturbed, byte for byte."""
    source = planted(301)
    shards = {folder / "shards" for folder in (source.folders.paired, source.folders.antigen)}

    def train(name):
        config = TrainConfig(
            run=tmp_path / name, widths=(16,), batch_size=32, epochs=6, compile="off", placement=placement
        )
        run_train(config, source.table, source.folders, resolved={})
        run = RunDir(tmp_path / name)
        return run.weights.read_bytes(), run.predictions.read_bytes()

    undisturbed = train("alone")
    command = [sys.executable, "-c", GROW, str(source.folders.paired), str(source.folders.antigen)]
    writer = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}
    )
    try:
        assert writer.stdout.readline() == "published\n"
        before = sum(len(os.listdir(folder)) for folder in shards)
        assert train("beside") == undisturbed
        after = sum(len(os.listdir(folder)) for folder in shards)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert after > before
    figure("shards published under a training", after - before)
