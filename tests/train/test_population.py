"""Trainings side by side in one set of tensors: each ends as it would alone, whoever joins and leaves."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from train.build import Task, build_trainer
from train.checkpoint import Checkpointer
from train.config import TrainConfig
from train.material import Material
from train.population import Pack, shape_of
from train.rundir import RunDir
from train.splits import Split

TOLERANCE = {"fp32": 1e-4, "bf16": 0.1}
"""How much the last validation error of a member may differ from that of the same training alone, of itself.

In bf16 the two round differently at each step, as any two orders of the same sums do.
"""

OWN = (
    {"lr": 1e-2, "weight_decay": 0.0, "dropout": 0.0, "seed": 0, "epochs": 4},
    {"lr": 3e-3, "weight_decay": 0.3, "dropout": 0.3, "seed": 1, "epochs": 2},
    {"lr": 1e-2, "weight_decay": 0.01, "dropout": 0.1, "seed": 2, "epochs": 4, "clip": 0.1},
    {"lr": 5e-3, "weight_decay": 0.01, "dropout": 0.5, "seed": 0, "epochs": 3, "warmup": 0.5},
)


@pytest.fixture(params=[16, 32], ids=["antigens per pair", "antigens apart"])
def material(request, planted):
    """201 pairs train and 51 validate; up to 10 antigens, which batches of 32 read once."""
    source = planted(252)
    split = Split(part_N=np.repeat([0, 1], [201, 51]).astype(np.int8), kind="by hand", digest="")
    found = Material(source.table, source.folders, split, torch.device("cpu"))
    found.batch_size = request.param
    return found


def training(material, folder: Path, **own):
    """Build a trainer and its checkpointer."""
    fixed = {"widths": (32, 16), "batch_size": material.batch_size, "patience": 0, "compile": "off"}
    config = TrainConfig(run=folder, **{**fixed, **own})
    trainer, _ = build_trainer(Task(config=config, material=material), packed=True)
    run = RunDir(folder)
    run.checkpoints.mkdir(parents=True)
    facts = {"antibody_dim": 6, "antigen_dim": 5, "widths": [32, 16]}
    return trainer, Checkpointer(run, keep=1, facts=facts)


HOOKS = {"on_epoch": lambda line: None, "progress": lambda *_: None, "stop": lambda: False}


def errors_of(trainer) -> list[float]:
    return [line["valid_rmse"] for line in trainer.position.history]


def alone(material, folder: Path, **own) -> list[float]:
    trainer, checkpointer = training(material, folder, **own)
    with checkpointer:
        assert trainer.fit(checkpointer, **HOOKS)
    return errors_of(trainer)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_member_ends_as_it_would_alone(material, tmp_path, precision) -> None:
    """Own rate, decay, dropout, seed, order and length; one joins late, and they leave at different times."""
    pack, trainers, left, late = Pack(), [], {}, 3
    for number, own in enumerate(OWN):
        trainer, checkpointer = training(material, tmp_path / f"{number}", precision=precision, **own)
        trainers.append((trainer, trainer.steps(checkpointer, **HOOKS)))
    for number, member in enumerate(trainers[:late]):
        pack.add(*member, number)
    for step in itertools.count():
        if step == 5:
            pack.add(*trainers[late], late)
        left |= dict(pack.step())
        if not len(pack):
            break
    assert left == dict.fromkeys(range(len(OWN)), True)
    for number, own in enumerate(OWN):
        expected = alone(material, tmp_path / f"alone-{number}", precision=precision, **own)
        found = errors_of(trainers[number][0])
        assert len(found) == len(expected)
        assert found[-1] == pytest.approx(expected[-1], rel=TOLERANCE[precision])
        if precision == "fp32":
            assert found == pytest.approx(expected, rel=TOLERANCE[precision])


@pytest.mark.parametrize("loss", ["squared", "ranking"])
def test_members_learn_from_bounds_and_order_as_they_would_alone(material, tmp_path, loss) -> None:
    """A third of the affinities are bounds; the pack computes the losses that each training would."""
    sides = np.array([0, 1, -1], np.int8)
    material.dataset = replace(material.dataset, side_N=sides[np.arange(252) % 3])
    pack, trainers = Pack(), []
    for number, own in enumerate(OWN[:2]):
        trainer, checkpointer = training(material, tmp_path / f"{number}", precision="fp32", loss=loss, **own)
        trainers.append(trainer)
        pack.add(trainer, trainer.steps(checkpointer, **HOOKS), number)
    while len(pack):
        assert all(done is True for _, done in pack.step())
    for number, own in enumerate(OWN[:2]):
        expected = alone(material, tmp_path / f"alone-{number}", precision="fp32", loss=loss, **own)
        assert errors_of(trainers[number]) == pytest.approx(expected, rel=TOLERANCE["fp32"])


def test_members_tell_each_other_apart(material, tmp_path) -> None:
    """The tolerance is far below what one member's settings change."""
    ends = [alone(material, tmp_path / f"{number}", precision="fp32", **own)[-1] for number, own in enumerate(OWN)]
    assert min(abs(a / b - 1) for a, b in itertools.combinations(ends, 2)) > 30 * TOLERANCE["fp32"]


def test_an_error_of_one_leaves_the_others_alone(material, tmp_path) -> None:
    """It comes out with the member's name; the others end as alone."""
    pack, found = Pack(), {}
    good, checkpointer = training(material, tmp_path / "good", precision="fp32", **OWN[0])
    pack.add(good, good.steps(checkpointer, **HOOKS), "good")
    bad, other = training(material, tmp_path / "bad", precision="fp32", **{**OWN[0], "lr": 1e30, "clip": 1e30})
    pack.add(bad, bad.steps(other, **HOOKS), "bad")
    while len(pack):
        found |= dict(pack.step())
    assert found["good"] is True
    assert type(found["bad"]).__name__ == "DivergedError"
    assert errors_of(good) == pytest.approx(alone(material, tmp_path / "alone", precision="fp32", **OWN[0]), rel=1e-4)


def test_shapes_keep_apart_what_cannot_be_stacked(tmp_path) -> None:
    """Whatever changes tensors or formulas; not what a member has of its own."""
    base = TrainConfig(run=tmp_path)
    same = TrainConfig(run=tmp_path / "x", lr=0.5, weight_decay=0.5, dropout=0.5, seed=5, epochs=5, patience=1)
    assert shape_of(base) == shape_of(same)
    others = [{"widths": (8,)}, {"depth": 1}, {"batch_size": 3}, {"features": "standardise"}, {"loss": "huber"}]
    assert len({shape_of(TrainConfig(run=tmp_path, **other)) for other in others} | {shape_of(base)}) == 6
    assert shape_of(TrainConfig(run=tmp_path, accumulation=2)) is None
    assert shape_of(TrainConfig(run=tmp_path, checkpointing="all")) is None
    assert shape_of(TrainConfig(run=tmp_path, head="bilinear")) is None
