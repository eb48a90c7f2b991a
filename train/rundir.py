"""The folder of a run: every path in it, and who may train into it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embed.store.durable import append, make_folder, remove_temporaries, replace_file
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
    def scalars(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.root / "tensorboard"

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
    def intervals(self) -> Path:
        """How wide the intervals around predictions are, and what they held."""
        return self.root / "intervals.json"

    @property
    def result(self) -> Path:
        """Metrics; written last, so a run that has it is finished."""
        return self.root / "result.json"


def standing_of(root: Path, *, identity: Mapping[str, object], resume: bool) -> Standing:
    """Tell whether a run may begin in a new or empty folder, or be taken up there; nothing is changed.

    Args:
        root: The run's folder.
        identity: What must be the same for a run to go on: flat, JSON-able.
        resume: Whether an existing run may be taken up.

    Raises:
        TrainError: The folder holds something else, another run, or a run while `resume` is off.
    """
    run = RunDir(root)
    if run.config.exists():
        return _standing(run, json.loads(json.dumps(identity)), resume)
    if root.exists() and (not root.is_dir() or any(_visible(root))):
        raise TrainError(
            f"train.run = {str(root)!r} exists and is no run (it has no config.json); choose another folder."
        )
    return "new"


def open_run(
    root: Path, *, resolved: Mapping[str, object], identity: Mapping[str, object], resume: bool
) -> tuple[RunDir, Standing]:
    """Begin a run, or take up the one that is there; only for the folder's owner.

    Args:
        root: The run's folder.
        resolved: The whole resolved config, kept for the reader; JSON-able.
        identity: As for `standing_of`.
        resume: As for `standing_of`.

    Raises:
        TrainError: As by `standing_of`.
    """
    run, standing = RunDir(root), standing_of(root, identity=identity, resume=resume)
    if standing == "new":
        make_folder(run.checkpoints)
        record = {"format": "bindcache run 1", "identity": identity, "config": resolved}
        replace_file(run.config, json.dumps(record, indent=1).encode())
    clear_up(run)
    return run, standing


def clear_up(run: RunDir) -> None:
    """Remove what killed processes left half written in a run; only for the folder's owner."""
    for folder in (run.root, run.checkpoints):
        remove_temporaries(folder, alone=True)


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


def write_metrics(path: Path, history: Sequence[Mapping[str, object]]) -> None:
    """Write one JSON line per epoch, replacing what is there."""
    replace_file(path, "".join(json.dumps(line) + "\n" for line in history).encode())


def append_metrics(path: Path, line: Mapping[str, object]) -> None:
    """Add the line of one epoch; a death may cut it, and the run that goes on writes it anew."""
    append(path, json.dumps(line).encode() + b"\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read the epochs that are written; none where there is no file."""
    try:
        written, _, _ = path.read_bytes().rpartition(b"\n")  # the last line may be half there
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in written.splitlines()]
