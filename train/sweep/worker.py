"""A worker's trials: several small ones at a time, packed by their shapes, or one after another."""

import itertools
import time
from collections.abc import Callable, Mapping

import torch

from train.build import Task, kernel_of
from train.config import TrainConfig
from train.material import Material, Progress
from train.population import Pack, shape_of
from train.rundir import RunDir
from train.share import drive
from train.sweep.config import SweepConfig
from train.sweep.trial import Trial, open_trial
from train.sweep.trials import Trials

_POLL_SECONDS = 1.0
_CPU_MEMBERS = 8
_GPU_MEMBERS = 64
_CPU_PAYS_BELOW = 1 << 24
"""Weights times pairs of a batch up to which a pack is faster on a CPU than one training after another.

Measured in fp32 (benchmarks/NOTES.md): 1.15 times at 2^23.6, 1.02 at 2^24.6, 0.97 above; the products of larger
networks fill the processor by themselves, and a pack's do not stay in its cache.
"""


class Worker:
    """Works on trials until there are none left."""

    def __init__(
        self,
        trials: Trials,
        sweep: SweepConfig,
        base: TrainConfig,
        material: Material,
        *,
        resolved: Callable[[TrainConfig], Mapping[str, object]],
    ) -> None:
        """Prepare to work.

        Args:
            trials: All trials of the sweep.
            sweep: Section `[sweep]`.
            base: Section `[train]`: what the trials have in common.
            material: What all trials read.
            resolved: Gives the whole resolved config of a trial.
        """
        self._trials = trials
        self._sweep = sweep
        self._base = base
        self._material = material
        self._resolved = resolved
        self._packs: dict[tuple[object, ...], Pack[int]] = {}

    def work(self, wanted: int, progress: Progress, stop: Callable[[], bool]) -> None:
        """Work until the sweep has as many trials as wanted and none of them is open, or until asked to stop.

        Args:
            wanted: Trials in all.
            progress: Told the trials done.
            stop: Polled at each step; when true, the trials in work are saved and left open.

        Raises:
            TrainError: A run cannot be written.
        """
        try:
            while not stop() or self._members():
                progress("trials", self._trials.done(), wanted)
                idle = not stop() and not self._take(wanted, stop)
                if idle and not self._members():
                    if not self._trials.running():
                        break
                    time.sleep(_POLL_SECONDS)  # another worker's trial may become free
                self._step_until_one_leaves()
        finally:
            for pack in self._packs.values():
                pack.close()
        progress("trials", self._trials.done(), wanted)

    def _members(self) -> int:
        return sum(map(len, self._packs.values()))

    def _take(self, wanted: int, stop: Callable[[], bool]) -> bool:
        """Claim trials until the packs are full; one that is not packed is trained to its end at once."""
        taken = False
        while self._members() < members_at_once(self._sweep, self._material.device) and not stop():
            claimed = self._trials.claim(wanted)
            if claimed is None:
                break
            taken = True
            train = open_trial(claimed, self._sweep, self._base, RunDir(self._trials.run_folder(claimed.number)))
            if train is None:
                continue
            shape = shape_of(train) if self._packs_well(train) else None
            packed = shape is not None
            trial = Trial(claimed, self._sweep, train, self._material, resolved=self._resolved, packed=packed)
            if shape is None:
                drive(trial.steps(stop), trial.trainer.differentiate)
                break  # the packs go on in between
            self._packs.setdefault(shape, Pack()).add(trial.trainer, trial.steps(stop), claimed.number)
        return taken

    def _packs_well(self, train: TrainConfig) -> bool:
        if any(self._material.has_residues):
            return False
        axes = [preparation.axes for preparation in self._material.preparations(train.features)]
        kernel, _ = kernel_of(Task(config=train, material=self._material))
        return packs_well(
            self._sweep,
            (sum(axes), *train.layers),
            train.batch_size,
            self._material.device,
            kernel=kernel is not None,
        )

    def _step_until_one_leaves(self) -> None:
        left = False
        while self._members() and not left:
            for pack in self._packs.values():
                for _, outcome in pack.step():
                    left = True
                    if isinstance(outcome, Exception):
                        raise outcome


def members_at_once(sweep: SweepConfig, device: torch.device) -> int:
    """Tell how many trials a worker has in work at once."""
    if isinstance(sweep.population, int):
        return sweep.population
    if sweep.population == "off":
        return 1
    return _CPU_MEMBERS if device.type == "cpu" else _GPU_MEMBERS


def packs_well(
    sweep: SweepConfig, widths: tuple[int, ...], batch_size: int, device: torch.device, *, kernel: bool
) -> bool:
    """Decide whether a trial goes into a pack: as the sweep says, or where it is measured to pay.

    Args:
        sweep: Section `[sweep]`.
        widths: Of the network, that of both vectors first.
        batch_size: Pairs of a batch.
        device: Where it is trained.
        kernel: Whether, trained alone, it has the kernel of bf16 on a CPU, which no pack keeps up with.
    """
    if sweep.population == "off":
        return False
    weights = sum(before * after for before, after in itertools.pairwise(widths))
    if isinstance(sweep.population, int) or device.type != "cpu":
        return True
    return not kernel and weights * batch_size <= _CPU_PAYS_BELOW
