"""Stage 2: the vectors of a pairs table become a trained, evaluated regressor of pKd.

1. find the vectors of all pairs, split the pairs, and open the run's folder
2. train, checkpointing beside it, until validation improves no more; a killed run goes on where it was
3. predict every pair with the best weights, and score valid and test beside the baselines
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from embed.pairs import PairTable
from embed.store.durable import replace_file
from train.acceleration import resolve_device
from train.build import Task, build_trainer
from train.checkpoint import Checkpointer, State, newest_state, prune, read_checkpoint
from train.config import TrainConfig
from train.dataset import VectorFolders
from train.errors import TrainError
from train.material import Material, Progress
from train.owner import own
from train.result import TrainResult, peak_memory_bytes, write_split
from train.rundir import RunDir, append_metrics, open_run, standing_of, write_metrics
from train.scalars import Scalars, refuse_without_tensorboard
from train.schedule import Line
from train.scoring import score_run
from train.share import Share, drive
from train.splits import make_split
from train.trainer import Trainer
from train.versions import versions
from train.weights import weights_image

_FREE = ("run", "placement", "checkpoint_every", "keep", "tensorboard")
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
    material = find_material(config, table, folders)
    return train_task(
        Task(config=config, material=material),
        resolved=resolved,
        resume=resume,
        started=started,
        progress=progress,
        stop=stop,
    )


def find_material(
    config: TrainConfig, table: PairTable, folders: VectorFolders, *, files: Path | None = None
) -> Material:
    """Split the pairs and find their vectors; arguments and errors as for `run_train` and `Material`."""
    if table.affinity_N is None:
        raise TrainError("Training needs affinities and pairs.affinity names no column; name it.")
    refuse_without_tensorboard(asked=config.tensorboard)
    return Material(table, folders, make_split(config, table), resolve_device(config.device), files=files)


def train_task(
    task: Task,
    *,
    resolved: Mapping[str, object],
    resume: bool = False,
    started: float | None = None,
    progress: Progress = lambda phase, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train and score one of several regressors that share their material; arguments as for `run_train`."""
    root, identity = task.config.run, identity_of(task)
    if standing_of(root, identity=identity, resume=resume) == "finished":
        return TrainResult.read(RunDir(root).result)
    with own(root) as owner:
        # looked at again: another process may have been at it until now
        run, standing = open_run(root, resolved=resolved, identity=identity, resume=resume)
        if standing == "finished":
            return TrainResult.read(run.result)
        trainer, details = build_trainer(task, progress)
        steps = train_steps(
            task, run, trainer, details, started=started, progress=progress, stop=lambda: stop() or not owner.is_current
        )
        result = drive(steps, trainer.differentiate)
        if not owner.is_current:
            raise TrainError(f"{root} was taken over by another process while this one was suspended: see there.")
        return result


def train_steps(
    task: Task,
    run: RunDir,
    trainer: Trainer,
    details: Mapping[str, str],
    *,
    started: float | None = None,
    progress: Progress = lambda phase, done, total: None,
    stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[Line], None] = lambda line: None,
) -> Generator[Share, torch.Tensor, TrainResult]:
    """Train and score a run that is open, leaving losses to the caller as `Trainer.steps` does.

    Args:
        task: What is trained on what.
        run: Its folder, not finished.
        trainer: As it was built.
        details: What was chosen when it was built.
        started: When the process, or this training in it, started; now if not given.
        progress: Told the optimizer steps done.
        stop: Polled at each step and after each epoch.
        on_epoch: Takes the metrics of each epoch.

    Raises:
        DivergedError: The loss is no finite number any more.
        TrainError: The run's folder cannot be used as it is.
    """
    started = time.time() if started is None else started
    write_split(run.split, task.material.table.id, task.material.split)
    result = yield from _train(task, run, trainer, details, started, progress, stop, on_epoch)
    if not result.stopped:
        progress("scoring", 0, 1)
        score_run(task, run, result)
        progress("scoring", 1, 1)
    result.seconds = time.time() - started
    result.peak_memory_bytes = peak_memory_bytes()
    write_metrics(run.metrics, trainer.position.history)  # what was appended need not be durable yet
    if not result.stopped:
        result.write(run.result)
    return result


def identity_of(task: Task) -> dict[str, object]:
    """List what must be the same for a run to go on, by names that a user knows."""
    material = task.material
    config = {f"train.{name}": value for name, value in asdict(task.config).items() if name not in _FREE}
    vectors = {f"vectors of {role}": path.name for role, path in asdict(material.folders).items()}
    return {
        **config,
        **vectors,
        "pairs table (SHA-256)": material.table.digest,
        "split (SHA-256)": material.split.digest,
    }


def _train(
    task: Task,
    run: RunDir,
    trainer: Trainer,
    details: Mapping[str, str],
    started: float,
    progress: Progress,
    stop: Callable[[], bool],
    on_epoch: Callable[[Line], None],
) -> Generator[Share, torch.Tensor, TrainResult]:
    """Train from the newest checkpoint, or from the start, to the best weights in the run's folder."""
    state = newest_state(run)
    if state is not None:
        _restore(trainer, state, run)
        prune(run, keep=task.config.keep, best_step=int(state["best_step"]))  # a death came between
    write_metrics(run.metrics, trainer.position.history)
    facts = facts_of(task)

    def end_epoch(line: Line) -> None:
        append_metrics(run.metrics, line)
        scalars.add(line)
        on_epoch(line)

    setup_seconds, begun = time.time() - started, time.perf_counter()
    with (
        Scalars(run.scalars, trainer.position.history, asked=task.config.tensorboard) as scalars,
        Checkpointer(run, keep=task.config.keep, facts=facts) as checkpointer,
    ):
        complete = yield from trainer.steps(
            checkpointer,
            on_epoch=end_epoch,
            progress=progress,
            stop=stop,
        )
    seconds = time.perf_counter() - begun
    if complete:
        best = read_checkpoint(run.checkpoint(trainer.position.stopper.best_step))
        replace_file(run.weights, weights_image(best["model"], facts))
    return TrainResult(
        run=str(run.root),
        pairs=len(task.material.dataset),
        epochs=trainer.position.epoch,
        best_epoch=trainer.position.stopper.best_epoch,
        setup_seconds=setup_seconds,
        pairs_per_second=trainer.pairs / seconds,
        waited_fraction=trainer.waited_seconds / seconds,
        details={
            **details,
            **_device_memory(task.material.device),
            "checkpoints": checkpointer.saves,
            "checkpoint_stall_seconds": checkpointer.stall_seconds,
            "checkpoint_longest_stall_seconds": checkpointer.longest_stall_seconds,
            "versions": versions(),
            "split": task.material.split.kind,
            "split_digest": task.material.split.digest,
        },
        stopped=not complete,
    )


def _restore(trainer: Trainer, state: State, run: RunDir) -> None:
    try:
        trainer.restore(state)
    except RuntimeError as error:
        said = "was begun by a version whose network had other shapes; train into another folder"
        raise TrainError(f"{run.root} {said}.") from error


def _device_memory(device: torch.device) -> dict[str, int]:
    """Tell the most memory of a CUDA device that was in use."""
    return {"device_memory_bytes": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}


def facts_of(task: Task) -> dict[str, object]:
    """Describe the network so that it can be built again from its weights' file alone."""
    dataset = task.material.dataset
    dims = {"antibody_dim": dataset.antibodies.dim, "antigen_dim": dataset.antigens.dim}
    axes = [preparation.axes for preparation in task.material.preparations(task.config.features)]
    network = {"axes": axes, "widths": list(task.config.layers), "head": task.config.head}
    return {**dims, **network, **({"queries": list(task.queries)} if any(task.queries) else {})}
