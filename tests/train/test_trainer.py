"""The loop: weighted accumulation, no recompilation, early stopping, divergence."""

import functools
from typing import get_args

import numpy as np
import pytest
import torch

from train import build
from train.checkpoint import Checkpointer, newest_state
from train.config import Head, TrainConfig
from train.errors import TrainError
from train.kernel import find_kernel
from train.material import Material
from train.rundir import RunDir
from train.splits import Split
from train.trainer import Trainer


@pytest.fixture
def make_trainer(planted, tmp_path, monkeypatch):
    """Build small trainers: 201 pairs train, 51 validate, neither a multiple of a batch; compiled ones in Python."""
    source = planted(252)
    split = Split(part_N=np.repeat([0, 1], [201, 51]).astype(np.int8), kind="by hand", digest="")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(build, "has_compiler", lambda: True)

    def make(**fields) -> Trainer:
        fixed = {"run": tmp_path / "run", "widths": (32, 16), "batch_size": 32, "epochs": 3, "precision": "fp32"}
        task = build.Task(
            config=TrainConfig(**{**fixed, **fields}),
            material=Material(source.table, source.folders, split, torch.device("cpu")),
        )
        return build.build_trainer(task)[0]

    return make


def fit(trainer: Trainer, folder, stop=lambda: False) -> bool:
    run = RunDir(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    facts = {"antibody_dim": 6, "antigen_dim": 5, "widths": [32, 16]}
    with Checkpointer(run, keep=1, facts=facts) as checkpointer:
        return trainer.fit(
            checkpointer, on_epoch=lambda line: None, progress=lambda phase, done, total: None, stop=stop
        )


def gradients_of_steps(trainer: Trainer, folder) -> list[dict[str, torch.Tensor]]:
    """Collect the gradient of every optimizer step, shortened as the step did it."""
    optimizer, found = trainer.optimizer, []
    step = optimizer.step

    def keep(*given, **more):
        step(*given, **more)
        found.append({name: gradient.clone() for name, gradient in optimizer.gradients.items()})

    optimizer.step = keep
    fit(trainer, folder)
    return found


@pytest.mark.parametrize("head", get_args(Head))
def test_accumulated_batches_are_one_large_batch(make_trainer, tmp_path, head) -> None:
    """Four batches of 16 give the gradient of one of 64 at every step, the short last one included."""
    still = {"lr": 1e-30, "dropout": 0.0, "weight_decay": 0.0, "clip": 1e9, "epochs": 1, "head": head}
    small = gradients_of_steps(make_trainer(batch_size=16, accumulation=4, **still), tmp_path / "a")
    large = gradients_of_steps(make_trainer(batch_size=64, accumulation=1, **still), tmp_path / "b")
    assert len(small) == len(large) == 4
    for ones, others in zip(small, large, strict=True):
        torch.testing.assert_close(ones, others, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_gradient(make_trainer, tmp_path) -> None:
    """The norm of what reaches the optimizer is at most `clip`."""
    for step in gradients_of_steps(make_trainer(clip=0.01), tmp_path / "run"):
        assert torch.stack([gradient.norm() for gradient in step.values()]).norm() <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize(("checkpointing", "head"), [("none", "concat"), ("all", "concat"), ("all", "difference")])
def test_nothing_is_recompiled_after_the_warm_up(make_trainer, tmp_path, checkpointing, head) -> None:
    """Odd row counts in training and validation, two epochs: one compilation serves them all."""
    trainer = make_trainer(compile="default", checkpointing=checkpointing, head=head, epochs=2)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert fit(trainer, tmp_path / "run")
    assert len(trainer.position.history) == 2


def test_compiled_and_recomputed_training_learns_the_same(make_trainer, tmp_path) -> None:
    """Without dropout, compiled with recomputation and eager agree on every epoch's errors."""
    histories = []
    for name, mode, checkpointing in (("a", "off", "none"), ("b", "default", "wide")):
        trainer = make_trainer(compile=mode, checkpointing=checkpointing, dropout=0.0)
        fit(trainer, tmp_path / name)
        histories.append([(line["train_loss"], line["valid_rmse"]) for line in trainer.position.history])
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("head", get_args(Head)[1:])
def test_a_head_of_products_goes_on_bit_by_bit(make_trainer, tmp_path, head, precision) -> None:
    """Stopped in the second epoch and taken up by another trainer, it ends with the weights of an unbroken one."""
    fields = {"head": head, "precision": precision, "dropout": 0.3, "compile": "off"}
    unbroken, stopped, going_on = (make_trainer(**fields) for _ in range(3))
    assert fit(unbroken, tmp_path / "unbroken")
    assert not fit(stopped, tmp_path / "stopped", stop=lambda: stopped.position.step == 9)
    going_on.restore(newest_state(RunDir(tmp_path / "stopped")))
    assert fit(going_on, tmp_path / "stopped")
    models = [trainer.state()["model"] for trainer in (unbroken, going_on, stopped)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not all(torch.equal(models[0][name], models[2][name]) for name in models[0])


def test_other_heads_train_without_the_kernel_and_say_so(tmp_path) -> None:
    """The kernel's formulas are those of `concat`."""
    config, asked = TrainConfig(run=tmp_path, head="gated"), {"bf16": True, "compiled": False}
    expected = (None, "it knows the head `concat`, not `gated`")
    assert build.step_kernel(config, torch.device("cpu"), **asked) == expected


def test_training_with_the_kernel_learns_the_same(make_trainer, tmp_path, monkeypatch) -> None:
    """In bf16, steps by the kernel and by torch end within 5 % of each other's error, with the same masks."""
    histories = []
    for name in ("kernel", "torch"):
        trainer = make_trainer(precision="bf16", epochs=6, lr=1e-2, compile="off")
        fit(trainer, tmp_path / name)
        histories.append([line["valid_rmse"] for line in trainer.position.history])
        monkeypatch.setattr(build, "find_kernel", lambda: (None, "for the test"))
    assert histories[0] != histories[1] or find_kernel()[0] is None
    np.testing.assert_allclose(*histories, rtol=0.05)


def test_the_warm_up_changes_nothing(make_trainer, tmp_path) -> None:
    """Weights, gradients and random state are as before, and training goes the same way."""
    warmed, plain = make_trainer(), make_trainer()
    before = torch.get_rng_state()
    warmed.warm_up()
    assert torch.equal(torch.get_rng_state(), before)
    histories = []
    for name, trainer in (("a", warmed), ("b", plain)):
        torch.manual_seed(1)
        fit(trainer, tmp_path / name)
        histories.append([line["valid_rmse"] for line in trainer.position.history])
    assert histories[0] == histories[1]


def test_training_stops_early(make_trainer, tmp_path) -> None:
    """With nothing learnt after the first epoch, `patience` more epochs are the end."""
    trainer = make_trainer(lr=1e-30, epochs=50, patience=3, dropout=0.0)
    assert fit(trainer, tmp_path / "run")
    assert trainer.position.epoch <= 10
    assert trainer.position.epoch == trainer.position.stopper.best_epoch + 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_divergence_is_told(make_trainer, tmp_path, precision) -> None:
    """A loss that is no number ends training with the epoch and the rate."""
    trainer = make_trainer(lr=1e38, clip=1e38, warmup=0.0, precision=precision)
    with pytest.raises(TrainError, match=r"diverged in epoch \d \(train.lr = 1e\+38\)"):
        fit(trainer, tmp_path / "run")


def test_the_best_epoch_is_the_one_with_the_least_error(make_trainer, tmp_path) -> None:
    """Epochs count from 1, and its step leads to its checkpoint."""
    trainer = make_trainer(epochs=6, lr=1e-2)
    fit(trainer, tmp_path / "run")
    errors = [line["valid_rmse"] for line in trainer.position.history]
    best = int(np.argmin(errors))
    assert trainer.position.stopper.best_epoch == best + 1
    assert trainer.position.stopper.best_step == trainer.position.history[best]["step"]
