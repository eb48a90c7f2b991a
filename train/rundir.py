"""The folder of a run: every path in it, and who may train into it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from train.durable import remove_temporaries, replace_file
from train.errors import TrainError

Standing = Literal["new", "begun", "finished"]


@dataclass(frozen=True, slots=True)
class RunDir:
    """Names every file of a run once."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved config and what makes this run this run."""
        return self.root / "config.json"

    @property
    def split(self) -> Path:
        """The part of every pair."""
        return self.root / "split.parquet"

    @property
    def metrics(self) -> Path:
        """One line per epoch."""
        return self.root / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.root / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Everything needed to go on after `step` optimizer steps."""
        return self.checkpoints / f"step-{step:09d}.pt"

    @property
    def weights(self) -> Path:
        """Weights of the best epoch."""
        return self.root / "best.safetensors"

    @property
    def predictions(self) -> Path:
        """Prediction for every pair."""
        return self.root / "predictions.parquet"

    @property
    def result(self) -> Path:
        """Metrics; written last, so a run that has it is finished."""
        return self.root / "result.json"


def open_run(
    root: Path, *, resolved: Mapping[str, object], identity: Mapping[str, object], resume: bool
) -> tuple[RunDir, Standing]:
    """Begin a run in a new or empty folder, or take up the one that is there.

    Args:
        root: The run's folder.
        resolved: The whole resolved config, kept for the reader; JSON-able.
        identity: What must be the same for a run to go on: flat, JSON-able.
        resume: Whether an existing run may be taken up.

    Raises:
        TrainError: The folder holds something else, another run, or a run while `resume` is off.
    """
    run = RunDir(root)
    identity = json.loads(json.dumps(identity))
    if run.config.exists():
        return run, _standing(run, identity, resume)
    if root.exists() and (not root.is_dir() or any(_visible(root))):
        raise TrainError(
            f"train.run = {str(root)!r} exists and is no run (it has no config.json); choose another folder."
        )
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    record = {"format": "bindcache run 1", "identity": identity, "config": resolved}
    replace_file(run.config, json.dumps(record, indent=1).encode())
    return run, "new"


def _visible(root: Path) -> list[Path]:
    """List what is not ours from an instant before config.json was there."""
    return [path for path in root.iterdir() if path.name[0] != "." and path.name != "checkpoints"]


def _standing(run: RunDir, identity: Mapping[str, object], resume: bool) -> Standing:
    recorded = _recorded_identity(run.config)
    finished = run.result.exists()
    if not resume:
        state, way_out = ("finished", "see its result") if finished else ("begun", "go on with it")
        raise TrainError(
            f"train.run = {str(run.root)!r} holds a {state} run; --resume to {way_out}, or name another one."
        )
    different = [
        f"{key} ({recorded.get(key)!r} in the run, {identity.get(key)!r} now)"
        for key in sorted({*recorded, *identity})
        if recorded.get(key) != identity.get(key)
    ]
    if different:
        raise TrainError(
            f"train.run = {str(run.root)!r} is another run; these differ: {', '.join(different)}. "
            "Name another folder, or restore them."
        )
    for folder in (run.root, run.checkpoints):
        remove_temporaries(folder)
    return "finished" if finished else "begun"


def _recorded_identity(path: Path) -> dict[str, object]:
    """Read what the run was begun with.

    Raises:
        TrainError: The file is not a run's config.json.
    """
    try:
        record = json.loads(path.read_bytes())
    except ValueError:
        record = None
    identity = record.get("identity") if isinstance(record, dict) else None
    if not isinstance(identity, dict):
        raise TrainError(f"{path} is not the config.json of a run; choose another folder as train.run.")
    return identity


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """Write one JSON line per epoch, replacing what is there."""
    replace_file(path, "".join(json.dumps(line) + "\n" for line in history).encode())


def append_metrics(path: Path, line: dict[str, float]) -> None:
    """Add the line of one epoch."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
