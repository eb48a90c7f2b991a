"""The training loop: from a regressor to its best epoch, exactly resumable at any optimizer step.

Shape suffixes: B batch, M validation pairs.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.profiler import record_function

from train.checkpoint import Checkpointer, State
from train.config import TrainConfig
from train.dropout import base_of
from train.errors import DivergedError
from train.gradient import Differentiator
from train.kernel import Kernel
from train.loader import Batch, Loader, epoch_order
from train.loss import batch_loss
from train.metrics import score
from train.optimizer import Optimizer
from train.predict import Predictor
from train.regressor import Regressor
from train.schedule import Line, Position, Stopper, learning_rate, rows_of_step
from train.share import Share, drive

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
        kernel: Kernel | None = None,
    ) -> None:
        """Prepare to train.

        Args:
            config: Section `[train]`.
            regressor: The network, on its device, statistics fitted.
            parts: Training and validation pairs, vectors prepared by these statistics.
            bf16: Whether losses are computed in bf16, the dtype of the training vectors.
            compiled: Compiles the network; used for training alone.
            kernel: Does the steps in place of torch, for bf16 on a CPU (`step_kernel`).
        """
        self.config = config
        self._regressor = regressor
        self._parts = parts
        self._device = regressor.target_std.device
        self.optimizer = Optimizer(regressor.network, weight_decay=config.weight_decay, bf16=bf16, kernel=kernel)
        self._forward = compiled(self.optimizer.working)
        self._by_hand = Differentiator(kernel, self.optimizer, config) if kernel else None
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
        self.optimizer.begin_step()
        self.optimizer.working.train()
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            self._loss(next(self._parts.train.epoch())).backward()
        self.optimizer.drop_gradients()

    def state(self) -> State:
        """Gather everything that decides how training goes on; tensors are live, not copied."""
        position = self.position
        return {
            "model": self._regressor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
        self.optimizer.load_state_dict(state["optimizer"])
        self._loss_sum.copy_(state["loss_sum"])
        self.position = Position(**{**state["position"], "stopper": Stopper(**state["position"]["stopper"])})
        torch.set_rng_state(state["random_cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])

    def fit(
        self,
        checkpointer: Checkpointer,
        *,
        on_epoch: Callable[[Line], None],
        progress: Callable[[str, int, int], None],
        stop: Callable[[], bool],
    ) -> bool:
        """Train to the last epoch, or until validation has not improved for `patience` epochs.

        Returns:
            Whether training is complete; arguments and errors are those of `steps`.
        """
        return drive(self.steps(checkpointer, on_epoch=on_epoch, progress=progress, stop=stop), self.differentiate)

    def steps(
        self,
        checkpointer: Checkpointer,
        *,
        on_epoch: Callable[[Line], None],
        progress: Callable[[str, int, int], None],
        stop: Callable[[], bool],
    ) -> Generator[Share, torch.Tensor, bool]:
        """Train, but leave the losses to the caller.

        Args:
            checkpointer: Saves the state after every epoch and every `checkpoint_every` steps.
            on_epoch: Takes the metrics of each epoch, before its checkpoint is saved.
            progress: Takes ("training", optimizer steps done, of how many at most).
            stop: Asked after every step and epoch; when it says True the state is saved and training leaves.

        Yields:
            One batch after the other. The caller has the gradient of its loss, over `rows`, put into or added to the
            optimizer's, and sends the loss, float32 [].

        Returns:
            Whether training is complete, False when it was stopped.

        Raises:
            DivergedError: The loss is no finite number any more.
            TrainError: A checkpoint cannot be written.
        """
        config, position = self.config, self.position
        checkpointer.reserve(self.state())
        while not self.is_complete():
            started = time.perf_counter()
            order_M = epoch_order(config.seed, position.epoch, self._parts.train_rows)
            batches = self._parts.train.epoch(order_M, start=position.step_in_epoch * config.accumulation)
            self.optimizer.working.train()
            while position.step_in_epoch < self.steps_per_epoch:
                yield from self._step(batches)
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
            if not self.is_complete() and stop():
                break
        checkpointer.wait()
        return self.is_complete()

    def is_complete(self) -> bool:
        """Tell whether all epochs are done, or validation has not improved for `patience` of them."""
        config, position = self.config, self.position
        return position.epoch >= config.epochs or position.stopper.is_done(config.patience)

    def predict_valid(self) -> npt.NDArray[np.float32]:
        """Predict the pKd of the validation pairs with the weights as they are, float32 [M]."""
        return self._parts.valid.predict(self._regressor)

    def _step(self, batches: Iterator[Batch]) -> Generator[Share, torch.Tensor, None]:
        """Do one optimizer step; every pair of its batches counts alike, however they are cut."""
        config, position = self.config, self.position
        rows = rows_of_step(
            position.step_in_epoch,
            rows=self._parts.train_rows,
            batch_size=config.batch_size,
            accumulation=config.accumulation,
        )
        self.optimizer.begin_step()
        for number in range(math.ceil(rows / config.batch_size)):
            asked = time.perf_counter()
            batch = next(batches)
            self.waited_seconds += time.perf_counter() - asked
            base = base_of(config.seed, position.step * config.accumulation + number)
            self._loss_sum += yield Share(batch=batch, rows=rows, base=base, add=number > 0)
        rate = learning_rate(position.step, total=self.total_steps, warmup=config.warmup, peak=config.lr)
        self.optimizer.step(rate, clip=config.clip)
        position.step += 1
        position.step_in_epoch += 1
        self.pairs += rows

    def differentiate(self, share: Share) -> torch.Tensor:
        """Put the gradient of a share's loss into the optimizer's; the loss comes back."""
        if self._by_hand:
            return self._by_hand.differentiate(share)
        self.optimizer.working.draw.base = share.base
        with record_function("forward"):
            loss = self._loss(share.batch)
        with record_function("backward"):
            (loss / share.rows).backward()
        self.optimizer.take_gradients(add=share.add)
        return loss.detach()

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Sum the losses of a batch, in units of the training targets' variance."""
        score_B = self._forward(*batch.inputs)
        return batch_loss(score_B, batch.target_B, batch.weight_B, batch.side_B, batch.antigen_B, self.config.loss)

    def _end_epoch(self, *, seconds: float) -> None:
        parts, position = self._parts, self.position
        mean_loss = self._loss_sum.item() / parts.train_rows
        prediction_M = self.predict_valid()
        valid = score(parts.valid_target_M, prediction_M)
        valid_error = math.nan if valid["rmse"] is None else valid["rmse"]
        if not math.isfinite(mean_loss + valid_error):
            raise DivergedError(
                f"Training diverged in epoch {position.epoch + 1} (train.lr = {self.config.lr}): "
                "the loss is no finite number; lower train.lr."
            )
        self._loss_sum.zero_()
        position.epoch, position.step_in_epoch = position.epoch + 1, 0
        position.stopper = position.stopper.after(valid_error, epoch=position.epoch, step=position.step)
        rate = learning_rate(position.step - 1, total=self.total_steps, warmup=self.config.warmup, peak=self.config.lr)
        scores = {f"valid_{name}": value for name, value in valid.items()}
        line = {"epoch": position.epoch, "step": position.step, "train_loss": mean_loss, **scores}
        position.history.append({**line, "lr": rate, "seconds": seconds})
