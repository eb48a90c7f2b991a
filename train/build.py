"""From a task to a trainer that is ready to train: vectors prepared and placed, network made and compiled.

Shape suffixes: N pairs, M pairs of one part, U distinct vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from embed.pairs import PairTable
from train.acceleration import Mode, antigens_apart, compile_mode, has_compiler, uses_bf16
from train.config import TrainConfig
from train.dataset import Dataset, Matrix, distinct_rows
from train.features import Preparation, fit_preparation
from train.loader import Loader, Pairs
from train.placement import Placement, find_placement
from train.predict import Predictor
from train.prepared import Mapped, place
from train.regressor import Regressor
from train.splits import Split
from train.trainer import Parts, Trainer

Progress = Callable[[str, int, int], None]
"""Told a phase, and how much of how much of it is done."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is trained on what."""

    config: TrainConfig
    table: PairTable
    dataset: Dataset
    split: Split
    device: torch.device


def build_trainer(task: Task, progress: Progress = lambda phase, done, total: None) -> tuple[Trainer, dict[str, str]]:
    """Make network, batches and trainer, compiled if that pays; the second value says what was chosen and why."""
    config, device = task.config, task.device
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(config.seed)
    regressor = _build_regressor(task)
    bf16 = uses_bf16(config.precision, device)
    parts, chosen = _build_parts(task, regressor, torch.bfloat16 if bf16 else torch.float32, progress)
    mode, why = compile_mode(
        config.compile,
        device=device,
        batches=parts.train.steps_per_epoch * config.epochs,
        accumulation=config.accumulation,
        compiler=has_compiler(),
    )
    trainer = Trainer(config, regressor, parts, bf16=bf16, compiled=_compiled(mode))
    if mode is not None:
        progress("compiling", 0, 1)
        trainer.warm_up()
        progress("compiling", 1, 1)
    return trainer, {
        "device": str(device),
        "precision": "bf16" if bf16 else "fp32",
        "compile": f"{mode or 'off'} ({why})",
        **chosen,
    }


def _compiled(mode: Mode | None) -> Callable[[nn.Module], Callable[..., torch.Tensor]]:
    def compile_network(network: nn.Module) -> Callable[..., torch.Tensor]:
        torch.compiler.reset()  # an earlier run in this process counts against the recompilation limit
        compiled: Callable[..., torch.Tensor] = torch.compile(network, fullgraph=True, dynamic=False, mode=mode)
        return compiled

    return (lambda network: network) if mode is None else compile_network


def _build_regressor(task: Task) -> Regressor:
    """Make the network with the statistics of the training pairs, on the device."""
    config, dataset = task.config, task.dataset
    regressor = Regressor(
        dataset.antibodies.dim,
        dataset.antigens.dim,
        widths=config.widths,
        dropout=config.dropout,
        checkpointing=config.checkpointing,
    )
    train = task.split.rows("train")
    target = dataset.target_N[train].astype(np.float64)
    regressor.fit(
        _prepare(task, dataset.antibodies, 0, train),
        _prepare(task, dataset.antigens, 1, train),
        target_mean=float(target.mean()),
        target_std=float(target.std()) or 1.0,
    )
    return regressor.to(task.device)


def _prepare(task: Task, matrix: Matrix, side: int, train: Rows) -> Preparation:
    count_U = np.bincount(task.dataset.row_N2[train, side], minlength=len(matrix))
    return fit_preparation(matrix, count_U, task.config.features)


def _build_parts(
    task: Task, regressor: Regressor, dtype: torch.dtype, progress: Progress
) -> tuple[Parts, dict[str, str]]:
    """Prepare and place the vectors of both parts: for training in `dtype`, for validation in float32."""
    config, dataset = task.config, task.dataset
    train, valid = task.split.rows("train"), task.split.rows("valid")
    apart, why = antigens_apart(np.bincount(dataset.row_N2[train, 1]), config.batch_size)
    train_pairs, placement = _place_pairs(task, regressor, train, dtype, antigens_near=apart, progress=progress)
    valid_pairs, _ = _place_pairs(task, regressor, valid, torch.float32, antigens_near=False, progress=progress)
    parts = Parts(
        train=Loader(train_pairs, config.batch_size, antigens_apart=apart),
        train_rows=len(train),
        valid=Predictor(valid_pairs.row_M2, valid_pairs.antibodies, valid_pairs.antigens),
        valid_target_M=dataset.target_N[valid],
    )
    return parts, {"placement": placement, "antigen_half": why}


def _place_pairs(
    task: Task, regressor: Regressor, index_M: Rows, dtype: torch.dtype, *, antigens_near: bool, progress: Progress
) -> tuple[Pairs, Placement]:
    """Renumber the pairs of a part among the vectors it uses, and place these; few antigens on the device anyway."""
    dataset, config = task.dataset, task.config
    row_M2, sides = distinct_rows(dataset.row_N2[index_M])
    antibodies = Mapped(dataset.antibodies, sides[0], regressor.antibody, dtype)
    antigens = Mapped(dataset.antigens, sides[1], regressor.antigen, dtype)
    placement = config.placement
    if placement == "auto":
        placement = find_placement(antibodies.nbytes + antigens.nbytes, task.device)
    target_M = (dataset.target_N[index_M] - regressor.target_mean.item()) / regressor.target_std.item()
    return Pairs(
        row_M2=row_M2,
        target_M=target_M.astype(np.float32),
        antibodies=place(antibodies, placement, progress),
        antigens=place(antigens, "device" if antigens_near else placement, progress),
    ), placement
