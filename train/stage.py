"""Stage 2: the vectors of a pairs table become a trained, evaluated regressor of pKd.

1. find the vectors of all pairs, split the pairs, and open the run's folder
2. train, checkpointing beside it, until validation improves no more; a killed run goes on where it was
3. predict every pair with the best weights, and score valid and test beside the baselines
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch

from embed.pairs import PairTable
from train.acceleration import resolve_device
from train.baselines import baselines
from train.build import Progress, Task, build_trainer
from train.checkpoint import Checkpointer, newest_state, read_checkpoint
from train.config import TrainConfig
from train.dataset import VectorFolders, build_dataset
from train.durable import replace_file
from train.errors import TrainError
from train.metrics import evaluate
from train.predict import predict_rows
from train.result import TrainResult, peak_memory_bytes, write_predictions, write_split
from train.rundir import RunDir, append_metrics, open_run, write_metrics
from train.splits import make_split
from train.weights import weights_image

_FREE = ("run", "placement", "checkpoint_every", "keep")
"""Fields that may change between a run and its resume: they leave the weights as they are."""


def run_train(
    config: TrainConfig,
    table: PairTable,
    folders: VectorFolders,
    *,
    resolved: Mapping[str, object],
    resume: bool = False,
    started: float | None = None,
    progress: Progress = lambda phase, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train a regressor of pKd on a table whose vectors are in the store, and score it.

    Args:
        config: Section `[train]`.
        table: The pairs, with their pKd.
        folders: Where the store holds their vectors.
        resolved: The whole resolved config, JSON-able; it is kept in the run's folder.
        resume: Go on with the run in `config.run`; begin it where there is none; read its result if finished.
        started: When the process started, in seconds since the epoch; now if not given.
        progress: Told the optimizer steps done.
        stop: Polled at each step; when true, the state is saved and the result says `stopped`.

    Raises:
        TrainError: The table, the config, the store or the run's folder cannot be used as it is.
    """
    started = time.time() if started is None else started
    if table.affinity_N is None:
        raise TrainError("Training needs affinities and pairs.affinity names no column; name it.")
    device = resolve_device(config.device)
    task = Task(
        config=config,
        table=table,
        dataset=build_dataset(table, folders),
        split=make_split(config, table),
        device=device,
    )
    identity = _identity(task, folders)
    run, standing = open_run(config.run, resolved=resolved, identity=identity, resume=resume)
    if standing == "finished":
        return TrainResult.read(run.result)
    write_split(run.split, table.id, task.split)
    result = _train(task, run, started, progress, stop)
    if not result.stopped:
        progress("scoring", 0, 1)
        _score(task, run, result)
        progress("scoring", 1, 1)
    result.seconds = time.time() - started
    result.peak_memory_bytes = peak_memory_bytes()
    if not result.stopped:
        result.write(run.result)
    return result


def _identity(task: Task, folders: VectorFolders) -> dict[str, object]:
    """List what must be the same for a run to go on, by names that a user knows."""
    config = {f"train.{name}": value for name, value in asdict(task.config).items() if name not in _FREE}
    vectors = {f"vectors of {role}": path.name for role, path in asdict(folders).items()}
    return {
        **config,
        **vectors,
        "pairs table (SHA-256)": task.table.digest,
        "split (SHA-256)": task.split.digest,
    }


def _train(task: Task, run: RunDir, started: float, progress: Progress, stop: Callable[[], bool]) -> TrainResult:
    """Train from the newest checkpoint, or from the start, to the best weights in the run's folder."""
    trainer, details = build_trainer(task, progress)
    state = newest_state(run)
    if state is not None:
        trainer.restore(state)
    write_metrics(run.metrics, trainer.position.history)
    facts = _facts(task)
    setup_seconds, begun = time.time() - started, time.perf_counter()
    with Checkpointer(run, keep=task.config.keep, facts=facts) as checkpointer:
        complete = trainer.fit(
            checkpointer,
            on_epoch=lambda line: append_metrics(run.metrics, line),
            progress=progress,
            stop=stop,
        )
    seconds = time.perf_counter() - begun
    if complete:
        best = read_checkpoint(run.checkpoint(trainer.position.stopper.best_step))
        replace_file(run.weights, weights_image(best["model"], facts))
    return TrainResult(
        run=str(run.root),
        pairs=len(task.dataset),
        epochs=trainer.position.epoch,
        best_epoch=trainer.position.stopper.best_epoch,
        setup_seconds=setup_seconds,
        pairs_per_second=trainer.pairs / seconds,
        waited_fraction=trainer.waited_seconds / seconds,
        details={
            **details,
            **_device_memory(task.device),
            "checkpoints": checkpointer.saves,
            "checkpoint_stall_seconds": checkpointer.stall_seconds,
            "checkpoint_longest_stall_seconds": checkpointer.longest_stall_seconds,
            "split": task.split.kind,
            "split_digest": task.split.digest,
        },
        stopped=not complete,
    )


def _device_memory(device: torch.device) -> dict[str, int]:
    """Tell the most memory of a CUDA device that was in use."""
    return {"device_memory_bytes": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}


def _facts(task: Task) -> dict[str, object]:
    """Describe the network so that it can be built again from its weights' file alone."""
    dims = {"antibody_dim": task.dataset.antibodies.dim, "antigen_dim": task.dataset.antigens.dim}
    return {**dims, "widths": list(task.config.widths)}


def _score(task: Task, run: RunDir, result: TrainResult) -> None:
    """Predict all pairs with the best weights; score both held-out parts, and the baselines beside."""
    dataset, split = task.dataset, task.split
    prediction_N = predict_rows(run.root, dataset, device=str(task.device))
    write_predictions(run.predictions, dataset.id, split, target_N=dataset.target_N, prediction_N=prediction_N)
    valid, test = split.rows("valid"), split.rows("test")
    result.valid = evaluate(dataset.target_N[valid], prediction_N[valid])
    result.test = evaluate(dataset.target_N[test], prediction_N[test])
    result.baselines = baselines(dataset, task.table, split)
