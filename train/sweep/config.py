"""What a sweep can be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from train.errors import TrainError


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """Section `[sweep]`: what is varied, how it is judged, and where the trials lie."""

    folder: Path
    """Folder of the sweep: its trials, each an ordinary run, and what came of them."""
    space: Mapping[str, Mapping[str, tuple[object, ...]]] = field(default_factory=dict)
    """Ranges of fields of `[train]`: `lr = {log = [1e-4, 1e-2]}`; also `float`, `int` and `choice`."""
    objective: Literal["spearman", "pearson", "r2", "rmse", "mae"] = "spearman"
    """What is judged, on the validation pairs at a trial's best epoch."""
    direction: Literal["auto", "maximize", "minimize"] = "auto"
    """Which end of the objective is the better one; `auto`: low for `rmse` and `mae`, high for the others."""
    sampler: Literal["tpe", "random", "sobol"] = "tpe"
    """How values are chosen: `tpe` learns from the trials before; `sobol` covers the space evenly."""
    seed: int = 0
    """Seeds the sampler."""
    halving: int = 8
    """Of the trials at a rung, one in so many goes on, the best so far, and at least `best`. 0: all do."""
    first_rung: int = 8
    """Epochs of the first rung; each next one has `halving` times as many."""
    best: int = 5
    """Trials in the ensemble, the best ones."""
    population: Literal["auto", "off"] | int = "auto"
    """Trials of one shape trained together as one set of tensors; `auto` where it is measured to pay."""

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            TrainError: A value breaks its rule.
        """
        for name, least in (("seed", 0), ("first_rung", 1), ("best", 1)):
            if getattr(self, name) < least:
                raise TrainError(f"sweep.{name} = {getattr(self, name)}: {name} is at least {least}.")
        if self.halving < 0 or self.halving == 1:
            raise TrainError(f"sweep.halving = {self.halving}: halving is 2 or more, or 0 for none.")
        if isinstance(self.population, int) and self.population < 1:
            raise TrainError(f'sweep.population = {self.population}: population is 1 or more, "auto" or "off".')

    @property
    def maximizes(self) -> bool:
        """Tell whether the highest objective is the best."""
        return self.direction == "maximize" or (self.direction == "auto" and self.objective not in ("rmse", "mae"))

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """List the epochs after which trials of `epochs` epochs are judged against each other."""
        found, rung = [], self.first_rung
        while self.halving and rung < epochs:
            found.append(rung)
            rung *= self.halving
        return tuple(found)
