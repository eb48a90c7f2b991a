"""One contestant's training in a process of its own: a request as JSON in, what came of it as JSON out."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training_data import Data
from benchmarks.training_usual import Usual
from train.acceleration import resolve_device
from train.build import Task, build_trainer
from train.checkpoint import Checkpointer
from train.config import TrainConfig
from train.material import Material
from train.metrics import r2, spearman
from train.result import peak_memory_bytes
from train.rundir import RunDir
from train.splits import make_split
from train.stage import facts_of


def train_one(request: dict[str, Any]) -> dict[str, Any]:
    """Train as the request says and score the validation pairs.

    Args:
        request: `folder` of the data, `contestant`, `seed`, `epochs`, `batch_size`; of `ours` also `head`, if not
            `concat`.
    """
    begun = time.perf_counter()
    folder, how, head = Path(request["folder"]), request["contestant"], request.get("head", "concat")
    config = TrainConfig(
        run=folder / f"run-{how}-{head}-{request['seed']}",
        head=head,
        seed=request["seed"],
        epochs=request["epochs"],
        batch_size=request["batch_size"],
        features="standardise",
        patience=0,
        device="cpu",
    )
    data = Data(folder=folder)
    table = data.read()
    split = make_split(config, table)
    if how == "ours":
        material = Material(table, data.folders(), split, resolve_device(config.device))
        found = _fit(Task(config=config, material=material), begun)
    else:
        usual = Usual(data, {part: split.rows(part) for part in ("train", "valid")}, config, how)
        found = {"setup_seconds": time.perf_counter() - begun, **usual.fit()}
    assert table.affinity_N is not None
    target_M, prediction_M = table.affinity_N[split.rows("valid")], found.pop("prediction")
    return {
        **found,
        "pairs": len(split.rows("train")) * config.epochs,
        "spearman": spearman(target_M, np.asarray(prediction_M)),
        "r2": r2(target_M, np.asarray(prediction_M)),
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _fit(task: Task, begun: float) -> dict[str, Any]:
    """Train as `run_train` does, checkpoints included; scoring and baselines come after that and are left out."""
    trainer, details = build_trainer(task)
    run = RunDir(task.config.run)
    run.checkpoints.mkdir(parents=True)
    setup, whole = time.perf_counter() - begun, time.perf_counter()
    with Checkpointer(run, keep=task.config.keep, facts=facts_of(task)) as checkpointer:
        trainer.fit(
            checkpointer,
            on_epoch=lambda line: None,
            progress=lambda phase, done, total: None,
            stop=lambda: False,
        )
    seconds = time.perf_counter() - whole
    return {
        "setup_seconds": setup,
        "steps_seconds": sum(line["seconds"] for line in trainer.position.history),
        "seconds": seconds,
        "prediction": trainer.predict_valid(),
        "notes": {
            **details,
            "waited_fraction": trainer.waited_seconds / seconds,
            "checkpoint_longest_stall_seconds": checkpointer.longest_stall_seconds,
        },
    }


if __name__ == "__main__":
    print(json.dumps(train_one(json.loads(sys.argv[1]))))
