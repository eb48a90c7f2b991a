"""TensorBoard scalars, read back by TensorBoard itself."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train.errors import TrainError
from train.scalars import Scalars, refuse_without_tensorboard

LINES = [
    {"epoch": 1, "step": 10, "train_loss": 0.5, "valid_spearman": None, "lr": 1e-3},
    {"epoch": 2, "step": 20, "train_loss": 0.25, "valid_spearman": 0.75, "lr": 5e-4},
]


def read(folder):
    """All scalars of a folder: name -> [(step, value)]."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(point.step, point.value) for point in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_every_defined_metric_is_a_point_at_its_step(tmp_path):
    """The undefined one is left out, epoch and step are no metrics."""
    with Scalars(tmp_path, (), asked=True) as scalars:
        for line in LINES:
            scalars.add(line)
    found = read(tmp_path)
    assert set(found) == {"train_loss", "valid_spearman", "lr"}
    assert found["train_loss"] == [(10, 0.5), (20, 0.25)]
    assert found["valid_spearman"] == [(20, 0.75)]


def test_a_resumed_run_has_each_epoch_once(tmp_path):
    """What a killed process wrote after its last checkpoint is written anew."""
    with Scalars(tmp_path, (), asked=True) as scalars:
        for line in LINES:
            scalars.add(line)
    with Scalars(tmp_path, LINES[:1], asked=True) as scalars:
        scalars.add({**LINES[1], "train_loss": 0.125})
    assert read(tmp_path)["train_loss"] == [(10, 0.5), (20, 0.125)]


def test_nothing_is_written_unasked(tmp_path):
    """And TensorBoard is not needed."""
    with Scalars(tmp_path, LINES, asked=False) as scalars:
        scalars.add(LINES[0])
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_the_extra_is_named(monkeypatch):
    """Before anything is trained, and only when asked."""
    monkeypatch.setattr("train.scalars.find_spec", lambda name: None)
    refuse_without_tensorboard(asked=False)
    with pytest.raises(TrainError, match=r"bindcache\[tensorboard\]"):
        refuse_without_tensorboard(asked=True)
