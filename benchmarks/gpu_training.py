"""Checks of the train stage on a GPU: resume, where vectors wait, CUDA graphs, and the time of an epoch."""

import hashlib
from collections.abc import Callable
from typing import Any

from benchmarks.gpu_checks import Place, Unfit
from benchmarks.training_data import Data, write_data
from train.acceleration import resolve_device
from train.build import Task, build_trainer
from train.checkpoint import Checkpointer
from train.config import TrainConfig
from train.material import Material
from train.result import TrainResult
from train.rundir import RunDir
from train.splits import make_split
from train.stage import run_train


def _placements(place: Place) -> str:
    table = _table(place)
    weights = {
        placement: _trained(place, table, f"placement-{placement}", placement=placement)
        for placement in ("device", "pinned", "mapped")
    }
    assert len(set(weights.values())) == 1, f"the weights differ: {weights}"
    return "device, pinned and mapped end in the same bytes"


def _resume(place: Place) -> str:
    table = _table(place)
    unbroken = _trained(place, table, "unbroken", dropout=0.3)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 7

    first = _train(place, table, "broken", stop=stop, dropout=0.3)
    assert first.stopped, "the training did not stop"
    resumed = _trained(place, table, "broken", resume=True, dropout=0.3)
    assert resumed == unbroken, "the resumed run ended in other weights"
    return "stopped in the first epoch and resumed, with dropout 0.3: the same bytes as the unbroken run"


def _graphs(place: Place) -> str:
    if place.device == "cpu":
        raise Unfit("needs CUDA")
    table = _table(place)
    eager = _train(place, table, "eager", compile="off", dropout=0.0)
    graphs = _train(place, table, "graphs", compile="max-autotune", dropout=0.0)
    errors = [_rmse(eager), _rmse(graphs)]
    assert abs(errors[0] - errors[1]) < 0.02 * errors[0], f"validation errors {errors}"
    return f"{graphs.details['compile']}; validation RMSE {errors[1]:.4f}, eager {errors[0]:.4f}"


def _epoch(**settings: Any) -> Callable[[Place], str]:  # noqa: ANN401
    def epoch(place: Place) -> str:
        data = _data(place, place.sizes.trained, "trained")
        name = "-".join(f"{key}-{value}" for key, value in settings.items())
        config = TrainConfig(
            run=place.folder / f"epoch-{name}",
            features="standardise",
            epochs=3,
            patience=0,
            device=place.device,
            **settings,
        )
        table = data.read()
        split = make_split(config, table)
        material = Material(table, data.folders(), split, resolve_device(config.device))
        task = Task(config=config, material=material)
        trainer, details = build_trainer(task)
        run = RunDir(config.run)
        run.checkpoints.mkdir(parents=True)
        nothing: Any = lambda *_: None  # noqa: E731
        with Checkpointer(run, keep=1, facts={}) as checkpointer:
            trainer.fit(checkpointer, on_epoch=nothing, progress=nothing, stop=lambda: False)
        seconds = [line["seconds"] for line in trainer.position.history]
        pairs = len(split.rows("train"))
        return (
            f"{pairs:,} training pairs and their validation in {min(seconds):.2f} s ({pairs / min(seconds):,.0f} "
            f"pairs/s); longest stall for a checkpoint {checkpointer.longest_stall_seconds * 1e3:.1f} ms; "
            f"{details['placement']}, {details['compile']}"
        )

    return epoch


def _data(place: Place, pairs: int, name: str) -> Data:
    folder = place.folder / name
    if folder.is_dir():
        return Data(folder=folder)
    folder.mkdir()
    antigens = max(2, place.sizes.antigens * pairs // place.sizes.trained)
    return write_data(folder, pairs=pairs, antibodies=max(10, pairs // 7), antigens=antigens)


def _table(place: Place) -> Data:
    return _data(place, place.sizes.checked, "checked")


def _rmse(result: TrainResult) -> float:
    assert result.valid is not None
    rmse = result.valid["rmse"]
    assert isinstance(rmse, float)
    return rmse


def _train(
    place: Place,
    data: Data,
    name: str,
    *,
    stop: Callable[[], bool] = lambda: False,
    **settings: Any,  # noqa: ANN401
) -> TrainResult:
    resume = settings.pop("resume", False)
    config = TrainConfig(
        run=place.folder / name, features="standardise", epochs=3, device=place.device, **{"compile": "off", **settings}
    )
    return run_train(config, data.read(), data.folders(), resolved={}, resume=resume, stop=stop)


def _trained(place: Place, data: Data, name: str, **settings: Any) -> str:  # noqa: ANN401
    """Train and digest the best weights."""
    _train(place, data, name, **settings)
    return hashlib.sha256((place.folder / name / "best.safetensors").read_bytes()).hexdigest()


CHECKS = {
    "resume with dropout": _resume,
    "where the vectors wait": _placements,
    "CUDA graphs, accumulation 1": _graphs,
    "epoch, batches of 128": _epoch(),
    "epoch, batches of 1024": _epoch(batch_size=1024),
    "epoch, batches of 128, compiled": _epoch(compile="max-autotune"),
    "epoch, batches of 128, pinned": _epoch(placement="pinned"),
}
"""What each is called, and does."""
