"""From a task to a trainer that is ready to train: vectors prepared and placed, network made and compiled."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from train.acceleration import Mode, antigens_apart, compile_mode, has_compiler, uses_bf16
from train.config import TrainConfig
from train.kernel import Kernel, find_kernel
from train.loader import Loader
from train.material import Material, Progress
from train.predict import Predictor
from train.regressor import Regressor
from train.trainer import Parts, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is trained on what."""

    config: TrainConfig
    material: Material

    @property
    def queries(self) -> tuple[int, int]:
        """Learned queries of antibodies and of antigens; 0 where residues have no vectors."""
        antibody, antigen = (self.config.queries if has else 0 for has in self.material.has_residues)
        return antibody, antigen


def build_trainer(
    task: Task, progress: Progress = lambda phase, done, total: None, *, packed: bool = False
) -> tuple[Trainer, dict[str, str]]:
    """Make network, batches and trainer, compiled if that pays; the second value says what was chosen and why.

    A trainer that goes into a pack is not compiled: the pack computes its losses.
    """
    config, device = task.config, task.material.device
    torch.backends.cudnn.benchmark = True
    regressor = build_regressor(task)
    bf16 = uses_bf16(config.precision, device)
    parts, chosen = build_parts(task, torch.bfloat16 if bf16 else torch.float32, progress)
    mode, why = compile_mode(
        "off" if packed else config.compile,
        device=device,
        batches=parts.train.steps_per_epoch * config.epochs,
        accumulation=config.accumulation,
        compiler=has_compiler(),
        residues=any(task.queries),
    )
    kernel, without = kernel_of(task, compiled=mode is not None)
    trainer = Trainer(config, regressor, parts, bf16=bf16, compiled=_compiled(mode), kernel=kernel)
    if mode is not None:
        progress("compiling", 0, 1)
        trainer.warm_up()
        progress("compiling", 1, 1)
    return trainer, {
        "device": str(device),
        "precision": "bf16" if bf16 else "fp32",
        "compile": f"{mode or 'off'} ({why})",
        "kernel": "yes" if kernel else f"no ({without})",
        **_residues(task),
        **chosen,
    }


def build_regressor(task: Task) -> Regressor:
    """Make the network with the statistics of the training pairs, on the device; seeds torch's random numbers."""
    config, material = task.config, task.material
    antibody, antigen = material.preparations(config.features)
    torch.manual_seed(config.seed)
    regressor = Regressor(
        material.dataset.antibodies.dim,
        material.dataset.antigens.dim,
        widths=config.layers,
        head=config.head,
        dropout=config.dropout,
        checkpointing=config.checkpointing,
        axes=(antibody.axes, antigen.axes),
        queries=task.queries,
    )
    regressor.fit_residues(*material.scales)
    regressor.fit(antibody, antigen, target_mean=material.target_mean, target_std=material.target_std)
    return regressor.to(material.device)


def build_parts(task: Task, dtype: torch.dtype, progress: Progress) -> tuple[Parts, dict[str, str]]:
    """Load both parts, vectors in `dtype` for training and in float32 for validation, and say how."""
    config, material = task.config, task.material
    train, valid = material.split.rows("train"), material.split.rows("valid")
    apart, why = antigens_apart(np.bincount(material.dataset.row_N2[train, 1]), config.batch_size)
    if any(task.queries):
        apart, why = False, "once per antigen of a batch where its residues are read, else once per pair"
    train_pairs, placement = material.pairs(
        "train", config.features, dtype, config.placement, antigens_near=apart, progress=progress
    )
    valid_pairs, _ = material.pairs(
        "valid", config.features, torch.float32, config.placement, antigens_near=False, progress=progress
    )
    measured_M = np.isin(valid, material.dataset.measured(valid))
    parts = Parts(
        train=Loader(train_pairs, config.batch_size, antigens_apart=apart, name_antigens=config.loss == "ranking"),
        train_rows=len(train),
        valid=Predictor(valid_pairs.row_M2[measured_M], valid_pairs.antibodies, valid_pairs.antigens),
        valid_target_M=material.dataset.target_N[valid][measured_M],
    )
    return parts, {"placement": placement, "antigen_half": why}


def _residues(task: Task) -> dict[str, str]:
    """Say of which sides residues are read."""
    sides = [name for name, has in zip(("antibodies", "antigens"), task.material.has_residues, strict=True) if has]
    return {"residues": f"{task.config.queries} queries beside the mean, of {' and '.join(sides)}"} if sides else {}


def kernel_of(task: Task, *, compiled: bool = False) -> tuple[Kernel | None, str]:
    """Find the kernel that does the steps of a task; where there is none, tell why."""
    config, material = task.config, task.material
    return step_kernel(
        config,
        material.device,
        bf16=uses_bf16(config.precision, material.device),
        compiled=compiled,
        bounds=material.dataset.side_N is not None,
        residues=any(task.queries),
    )


def step_kernel(
    config: TrainConfig,
    device: torch.device,
    *,
    bf16: bool,
    compiled: bool,
    bounds: bool = False,
    residues: bool = False,
) -> tuple[Kernel | None, str]:
    """Find the kernel that does optimizer steps in place of torch; where there is none, tell why."""
    if not bf16 or device.type != "cpu":
        return None, "it is for bf16 on a CPU"
    if compiled or config.checkpointing != "none" or config.accumulation > 1:
        return None, "it knows neither compiling nor checkpointing of activations nor accumulation"
    if config.head != "concat":
        return None, f"it knows the head `concat`, not `{config.head}`"
    if residues:
        return None, "it does not know vectors of residues"
    if bounds or config.loss == "ranking":
        return None, "it knows neither bounds nor the loss `ranking`"
    return find_kernel()


def _compiled(mode: Mode | None) -> Callable[[nn.Module], Callable[..., torch.Tensor]]:
    def compile_network(network: nn.Module) -> Callable[..., torch.Tensor]:
        torch.compiler.reset()  # an earlier run in this process counts against the recompilation limit
        compiled: Callable[..., torch.Tensor] = torch.compile(network, fullgraph=True, dynamic=False, mode=mode)
        return compiled

    return (lambda network: network) if mode is None else compile_network
