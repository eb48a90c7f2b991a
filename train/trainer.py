"""The training loop: from a regressor to its best epoch, exactly resumable at any optimizer step.

Shape suffixes: B batch, M validation pairs.
"""

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
from train.optimizer import Optimizer
from train.predict import Predictor
from train.regressor import Regressor
from train.schedule import Stopper, learning_rate, rows_of_step

Forward = Callable[..., torch.Tensor]
"""The network, or its compiled form."""


@dataclass(slots=True, kw_only=True)
class Parts:
    """What a training reads: batches of the training pairs, and the validation pairs with their pKd."""

    train: Loader
    """Its targets are in deviations of the training targets from their mean."""
    train_rows: int
    valid: Predictor
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
        self,
        config: TrainConfig,
        regressor: Regressor,
        parts: Parts,
        *,
        bf16: bool,
        compiled: Callable[[nn.Module], Forward] = lambda network: network,
    ) -> None:
        """Prepare to train.

        Args:
            config: Section `[train]`.
            regressor: The network, on its device, statistics fitted.
            parts: Training and validation pairs, vectors prepared by these statistics.
            bf16: Whether losses are computed in bf16, the dtype of the training vectors.
            compiled: Compiles the network; used for training alone.
        """
        self._config = config
        self._regressor = regressor
        self._parts = parts
        self._device = regressor.target_std.device
        self._optimizer = Optimizer(regressor.network, weight_decay=config.weight_decay, bf16=bf16)
        self._forward = compiled(self._optimizer.working)
        self._loss_sum = torch.zeros((), device=self._device)
        self.position = Position()
        self.pairs = 0
        """Training pairs that this process has seen."""
        self.waited_seconds = 0.0
        """Of its steps, the time until the next batch was there."""
        self.steps_per_epoch = math.ceil(parts.train.steps_per_epoch / config.accumulation)
        self.total_steps = self.steps_per_epoch * config.epochs

    def warm_up(self) -> None:
        """Run one batch forward and backward so that all is compiled; nothing else changes."""
        self._optimizer.begin_step()
        self._optimizer.working.train()
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            self._loss(next(self._parts.train.epoch())).backward()
        self._optimizer.drop_gradients()

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
        checkpointer.reserve(self.state())
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

    def predict_valid(self) -> npt.NDArray[np.float32]:
        """Predict the pKd of the validation pairs with the weights as they are, float32 [M]."""
        return self._parts.valid.predict(self._regressor)

    def _rest_of_epoch(self) -> Iterator[None]:
        """Do the optimizer steps that the epoch still has, one per iteration."""
        config, position = self._config, self.position
        order_M = epoch_order(config.seed, position.epoch, self._parts.train_rows)
        batches = self._parts.train.epoch(order_M, start=position.step_in_epoch * config.accumulation)
        self._optimizer.working.train()
        while position.step_in_epoch < self.steps_per_epoch:
            self._step(batches)
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
        self._optimizer.begin_step()
        for number in range(math.ceil(rows / config.batch_size)):
            asked = time.perf_counter()
            batch = next(batches)
            self.waited_seconds += time.perf_counter() - asked
            loss = self._loss(batch)
            (loss / rows).backward()
            self._optimizer.take_gradients(add=number > 0)
            self._loss_sum += loss.detach()
        rate = learning_rate(position.step, total=self.total_steps, warmup=config.warmup, peak=config.lr)
        self._optimizer.step(rate, clip=config.clip)
        position.step += 1
        position.step_in_epoch += 1
        self.pairs += rows

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Sum the squared errors of a batch, in units of the training targets' variance."""
        score_B = self._forward(batch.antibody_BD, batch.antigen_UD, batch.which_BU)
        return ((score_B - batch.target_B).square() * batch.weight_B).sum()

    def _end_epoch(self, *, seconds: float) -> None:
        parts, position = self._parts, self.position
        mean_loss = self._loss_sum.item() / parts.train_rows
        prediction_M = self.predict_valid()
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
                "lr": learning_rate(
                    position.step - 1, total=self.total_steps, warmup=self._config.warmup, peak=self._config.lr
                ),
                "seconds": seconds,
            }
        )
