"""The training loop: from a regressor to its best epoch, exactly resumable at any optimizer step.

Shape suffixes: B batch, M validation pairs.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from train.checkpoint import Checkpointer, State
from train.config import TrainConfig
from train.errors import TrainError
from train.loader import Batch, Loader, epoch_order
from train.predict import predict_batches
from train.regressor import Regressor
from train.schedule import Stopper, learning_rate, rows_of_step

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(slots=True, kw_only=True)
class Parts:
    """What a training reads: batches of the training pairs, and the validation pairs with their pKd."""

    train: Loader
    train_rows: int
    valid: Loader
    valid_target_M: npt.NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class Position:
    """Where a training stands, in plain values that a checkpoint keeps."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs ended."""
    step_in_epoch: int = 0
    stopper: Stopper = field(default_factory=Stopper)
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry per ended epoch."""


class Trainer:
    """One training: network, optimizer, and where it stands."""

    def __init__(
        self, config: TrainConfig, regressor: Regressor, parts: Parts, *, forward: Forward, bf16: bool
    ) -> None:
        """Prepare to train.

        Args:
            config: Section `[train]`.
            regressor: The network, on its device, statistics fitted.
            parts: Training and validation pairs.
            forward: The network or its compiled form; used for training alone.
            bf16: Whether training runs under bf16 autocast.
        """
        self._config = config
        self._regressor = regressor
        self._forward = forward
        self._parts = parts
        self._bf16 = bf16
        self._device = regressor.head.weight.device
        self._optimizer = torch.optim.AdamW(_groups(regressor, config.weight_decay), lr=config.lr, fused=True)
        self._loss_sum = torch.zeros((), device=self._device)
        self.position = Position()
        self.pairs = 0
        self.steps_per_epoch = math.ceil(parts.train.steps_per_epoch / config.accumulation)
        self.total_steps = self.steps_per_epoch * config.epochs

    def warm_up(self) -> None:
        """Run one batch of zeros forward and backward so that all is compiled; nothing else changes."""
        rows, dims = self._config.batch_size, self._regressor.dims
        antibody_BD, antigen_BD = (torch.zeros(rows, dim, device=self._device) for dim in dims)
        nothing_B = torch.zeros(rows, device=self._device)
        self._regressor.train()
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            self._loss(Batch(antibody_BD, antigen_BD, nothing_B, nothing_B)).backward()
        self._optimizer.zero_grad(set_to_none=True)

    def state(self) -> State:
        """Gather everything that decides how training goes on; tensors are live, not copied."""
        position = self.position
        return {
            "model": self._regressor.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "loss_sum": self._loss_sum,
            "step": position.step,
            "best_step": position.stopper.best_step,
            "position": asdict(position),
            "random_cpu": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self._device.type == "cuda" else [],
        }

    def restore(self, state: State) -> None:
        """Go back to a saved state."""
        self._regressor.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._loss_sum.copy_(state["loss_sum"])
        self.position = Position(**{**state["position"], "stopper": Stopper(**state["position"]["stopper"])})
        torch.set_rng_state(state["random_cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])

    def fit(
        self,
        checkpointer: Checkpointer,
        *,
        on_epoch: Callable[[dict[str, float]], None],
        progress: Callable[[str, int, int], None],
        stop: Callable[[], bool],
    ) -> bool:
        """Train to the last epoch, or until validation has not improved for `patience` epochs.

        Args:
            checkpointer: Saves the state after every epoch and every `checkpoint_every` steps.
            on_epoch: Takes the metrics of each epoch, before its checkpoint is saved.
            progress: Takes ("training", optimizer steps done, of how many at most).
            stop: Asked before every step; when it says True the state is saved and training leaves.

        Returns:
            Whether training is complete, False when it was stopped.

        Raises:
            TrainError: The loss is no finite number any more, or a checkpoint cannot be written.
        """
        config, position = self._config, self.position
        while position.epoch < config.epochs and not position.stopper.is_done(config.patience):
            started = time.perf_counter()
            for _ in self._rest_of_epoch():
                progress("training", position.step, self.total_steps)
                if stop():
                    checkpointer.save(self.state())
                    checkpointer.wait()
                    return False
                due = config.checkpoint_every and position.step % config.checkpoint_every == 0
                if due and position.step_in_epoch < self.steps_per_epoch:
                    checkpointer.save(self.state())
            self._end_epoch(seconds=time.perf_counter() - started)
            on_epoch(position.history[-1])
            checkpointer.save(self.state())
        checkpointer.wait()
        return True

    def _rest_of_epoch(self) -> Iterator[None]:
        """Do the optimizer steps that the epoch still has, one per iteration."""
        config, position = self._config, self.position
        order_M = epoch_order(config.seed, position.epoch, self._parts.train_rows)
        batches = self._parts.train.epoch(order_M, start=position.step_in_epoch * config.accumulation)
        self._regressor.train()
        while position.step_in_epoch < self.steps_per_epoch:
            self._step(itertools.islice(batches, config.accumulation))
            yield

    def _step(self, batches: Iterator[Batch]) -> None:
        """Do one optimizer step; every pair of its batches counts alike, however they are cut."""
        config, position = self._config, self.position
        rows = rows_of_step(
            position.step_in_epoch,
            rows=self._parts.train_rows,
            batch_size=config.batch_size,
            accumulation=config.accumulation,
        )
        for batch in batches:
            loss = self._loss(batch)
            (loss / rows).backward()
            self._loss_sum += loss.detach()
        nn.utils.clip_grad_norm_(self._regressor.parameters(), config.clip)
        rate = learning_rate(position.step, total=self.total_steps, warmup=config.warmup, peak=config.lr)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        position.step += 1
        position.step_in_epoch += 1
        self.pairs += rows

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Sum the squared errors of a batch, in units of the training targets' variance."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            prediction_B = self._forward(batch.antibody_BD, batch.antigen_BD)
        error_B = (prediction_B - batch.target_B) / self._regressor.target_std
        return (error_B.square() * batch.weight_B).sum()

    def _end_epoch(self, *, seconds: float) -> None:
        parts, position = self._parts, self.position
        mean_loss = self._loss_sum.item() / parts.train_rows
        prediction_M = predict_batches(self._regressor, parts.valid, len(parts.valid_target_M))
        valid_error = float(np.sqrt(np.mean((prediction_M.astype(np.float64) - parts.valid_target_M) ** 2)))
        if not math.isfinite(mean_loss + valid_error):
            raise TrainError(
                f"Training diverged in epoch {position.epoch + 1} (train.lr = {self._config.lr}): "
                "the loss is no finite number; lower train.lr."
            )
        self._loss_sum.zero_()
        position.epoch += 1
        position.step_in_epoch = 0
        position.stopper = position.stopper.after(valid_error, epoch=position.epoch, step=position.step)
        position.history.append(
            {
                "epoch": position.epoch,
                "step": position.step,
                "train_rmse": math.sqrt(mean_loss) * self._regressor.target_std.item(),
                "valid_rmse": valid_error,
                "lr": float(self._optimizer.param_groups[0]["lr"]),
                "seconds": seconds,
            }
        )


def _groups(regressor: Regressor, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices; leave biases and norms alone."""
    matrices = [parameter for parameter in regressor.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in regressor.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
