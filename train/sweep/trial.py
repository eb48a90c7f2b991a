"""One trial: an ordinary run in a folder of its own, which ends early where a rung says so."""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace

import torch

from train.build import Task, build_trainer
from train.config import TrainConfig
from train.errors import DivergedError, TrainError
from train.material import Material
from train.result import TrainResult
from train.rundir import RunDir, clear_up, open_run
from train.schedule import Line
from train.share import Share
from train.stage import identity_of, train_steps
from train.sweep.config import SweepConfig
from train.sweep.halving import Verdict, best_so_far
from train.sweep.trials import Claimed
from train.trainer import Trainer


class Trial:
    """A trial in work: its trainer, and the steps that train and record it."""

    def __init__(
        self,
        claimed: Claimed,
        sweep: SweepConfig,
        train: TrainConfig,
        material: Material,
        *,
        resolved: Callable[[TrainConfig], Mapping[str, object]],
        packed: bool,
    ) -> None:
        """Open the trial's run, as new or where it stands.

        Args:
            claimed: The trial.
            sweep: Section `[sweep]`.
            train: The trial's own section `[train]`.
            material: What all trials read.
            resolved: Gives the whole resolved config of a trial.
            packed: Whether a pack computes its losses.

        Raises:
            TrainError: The run cannot be gone on with.
        """
        self._claimed = claimed
        self._sweep = sweep
        self._task = Task(config=train, material=material)
        self._run, self._standing = open_run(
            train.run, resolved=resolved(train), identity=identity_of(self._task), resume=True
        )
        self.trainer, self._details = build_trainer(self._task, packed=packed)

    def steps(self, stop: Callable[[], bool]) -> Generator[Share, torch.Tensor, None]:
        """Train until the trial ends or has to wait, or the worker is asked to stop, and record how it ended.

        The trial is left open where it waits for others to reach its rung, and where the worker stops.

        Args:
            stop: Polled at each step.

        Raises:
            TrainError: The run cannot be written; the trial is left open.
        """
        with self._claimed.owner as owner:
            judge = Judge(self._claimed, self._sweep, self._task.config.epochs, self.trainer)

            def leave() -> bool:
                return judge.verdict is not Verdict.GOES_ON or stop() or not owner.is_current

            try:
                result = yield from self._train(judge, leave)
            except DivergedError as error:
                self._claimed.fail(str(error))
                return
            if not owner.is_current:
                return
            if judge.verdict is Verdict.ENDS:
                self._claimed.prune()
            elif not result.stopped:
                self._record(result)

    def _train(self, judge: "Judge", stop: Callable[[], bool]) -> Generator[Share, torch.Tensor, TrainResult]:
        if self._standing == "finished":
            return TrainResult.read(self._run.result)
        return (
            yield from train_steps(
                self._task,
                self._run,
                self.trainer,
                self._details,
                started=time.time(),
                stop=stop,
                on_epoch=judge,
            )
        )

    def _record(self, result: TrainResult) -> None:
        value = result.valid and result.valid[self._sweep.objective]
        if isinstance(value, float):
            self._claimed.complete(value)
        else:
            self._claimed.fail(f"{self._sweep.objective} is undefined on the validation pairs")


class Judge:
    """Reports what a trial is worth at its rungs, and says when it is to stop."""

    def __init__(self, claimed: Claimed, config: SweepConfig, epochs: int, trainer: Trainer) -> None:
        """Judge by what the trainer keeps of all epochs."""
        self._claimed = claimed
        self._objective = f"valid_{config.objective}"
        self._maximizes = config.maximizes
        self._epochs = epochs
        self._rungs = config.rungs(epochs)
        self._trainer = trainer
        self.verdict = Verdict.GOES_ON

    def __call__(self, line: Line) -> None:
        """Look at the trial after an epoch."""
        if line["epoch"] in self._rungs:
            history, left = self._trainer.position.history, self._epochs - line["epoch"]
            values = (each[self._objective] for each in history)
            seconds = sum(each["seconds"] for each in history) / len(history)
            best = best_so_far(values, maximizes=self._maximizes)
            self._claimed.report(line["epoch"], best, seconds_left=left * seconds)
            self.verdict = self._claimed.verdict()


def open_trial(
    claimed: Claimed,
    sweep: SweepConfig,
    base: TrainConfig,
    folder: RunDir,
) -> TrainConfig | None:
    """Give the section `[train]` of a trial; None where it ends before it begins, and how is recorded.

    Args:
        claimed: The trial.
        sweep: Section `[sweep]`.
        base: What the trials have in common.
        folder: Of the trial's run.
    """
    if claimed.verdict() is Verdict.ENDS:  # it waited for better ones, or its worker died before it was recorded
        with claimed.owner:
            clear_up(folder)
            claimed.prune()
        return None
    try:
        return trial_config(base, {**claimed.values, "run": folder.root})
    except TrainError as error:
        with claimed.owner:
            claimed.fail(str(error))
        return None


def trial_config(base: TrainConfig, values: Mapping[str, object]) -> TrainConfig:
    """Put a trial's values in the place of the config's.

    Raises:
        TrainError: A value breaks its rule.
    """
    return replace(base, **values)  # type: ignore[arg-type]  # read_space saw to the types
