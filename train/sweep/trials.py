"""The trials of a sweep: which there are, who works on them, and what is tried next.

They lie in an Optuna study, in a journal that any number of workers append to; each trial's folder says who owns it.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from embed.store.durable import remove_temporaries, remove_tree, temporary_name
from train.owner import Owner, has_owner, is_owned, take
from train.sweep.config import SweepConfig
from train.sweep.halving import Verdict, judge
from train.sweep.journal import Journal
from train.sweep.sampler import make_sampler
from train.sweep.space import Range

DROPPED = "dropped"
"""Attribute of a trial that does not count: why it was never trained."""
REASON = "reason"
"""Attribute of a failed trial: what went wrong."""
LEFT = "seconds_left"
"""Attribute of a trial that reached a rung: how long the rest of its epochs takes."""


class Claimed:
    """A trial that this process works on."""

    def __init__(self, trials: "Trials", trial: Trial, owner: Owner, values: Mapping[str, object], wanted: int) -> None:
        self.number = trial.number
        self.values = values
        """What it tries, by field of `[train]`."""
        self.owner = owner
        self._trials = trials
        self._trial = trial
        self._wanted = wanted

    def report(self, epoch: int, value: float, *, seconds_left: float) -> None:
        """Record the best that the objective was so far, at a rung, once; and how long the rest takes."""
        if epoch not in self._trials.reached(self.number):
            self._trial.set_user_attr(LEFT, seconds_left)
            self._trial.report(value, epoch)

    def verdict(self) -> Verdict:
        """Tell what becomes of it at the last rung it reached."""
        return self._trials.verdict(self._trial.number, self._wanted)

    def complete(self, value: float) -> None:
        """Record the objective of a trial that was trained to its end."""
        self._trials.tell(self._trial, TrialState.COMPLETE, value)

    def prune(self) -> None:
        """Record that it ended at a rung."""
        self._trials.tell(self._trial, TrialState.PRUNED)

    def fail(self, reason: str) -> None:
        """Record that it came to nothing."""
        self._trial.set_user_attr(REASON, reason)
        self._trials.tell(self._trial, TrialState.FAIL)


class Trials:
    """All trials of one sweep, shared by its workers."""

    def __init__(self, folder: Path, config: SweepConfig, ranges: Mapping[str, Range]) -> None:
        """Open the study in a sweep's folder, or begin it.

        Args:
            folder: The sweep's folder, absolute.
            config: Section `[sweep]`.
            ranges: What is varied.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._folder = folder
        self._config = config
        self._ranges = ranges
        self._asking = folder / "asking"
        remove_temporaries(self._asking)
        self._distributions = {name: distribution_of(each) for name, each in ranges.items()}
        self.study = optuna.create_study(
            storage=JournalStorage(Journal(folder / "study.journal")),
            study_name="sweep",
            direction="maximize" if config.maximizes else "minimize",
            sampler=make_sampler(config),
            load_if_exists=True,
        )

    def run_folder(self, number: int) -> Path:
        """Name the folder of a trial."""
        return self._folder / "trials" / f"{number:05d}"

    def counted(self) -> list[FrozenTrial]:
        """List the trials that count, in order; not those that no worker ever trained."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if DROPPED not in trial.user_attrs]

    def values_of(self, trial: FrozenTrial) -> dict[str, object]:
        """Tell what a trial tries, by field of `[train]`."""
        return {name: self._value(name, value) for name, value in trial.params.items()}

    def claim(self, wanted: int) -> Claimed | None:
        """Take up a trial that its worker left and that need not wait, or else a new one while they are too few.

        The longest is first (Graham 1969, "Bounds on multiprocessing timing anomalies"): workers end close together.

        Returns:
            A trial that nobody else works on; None where there is nothing to do now.
        """
        under_way = [trial for trial in self.counted() if trial.state == TrialState.RUNNING]
        for frozen in sorted(under_way, key=lambda trial: -trial.user_attrs.get(LEFT, 0.0)):
            if self.verdict(frozen.number, wanted) is Verdict.WAITS:
                continue
            if (claimed := self._take_up(frozen, wanted)) is not None:
                return claimed
        while len(self.counted()) < wanted:
            trial, owner = self._ask()
            if owner is None:  # taken up by another, as after a long suspension
                continue
            if self._place_of(trial.number) >= wanted:
                self._drop(trial, "more than were asked for")
                return None
            return Claimed(self, trial, owner, self.values_of(self._frozen(trial.number)), wanted)
        return None

    def running(self) -> int:
        """Count the trials that some worker has not brought to an end."""
        return sum(trial.state == TrialState.RUNNING for trial in self.counted())

    def reached(self, number: int) -> Mapping[int, float]:
        """List the best that a trial's objective was so far, by the epochs of the rungs it reached."""
        return self._frozen(number).intermediate_values

    def done(self) -> int:
        """Count the trials that came to an end."""
        return len(self.counted()) - self.running()

    def verdict(self, number: int, wanted: int) -> Verdict:
        """Tell what becomes of a trial, of so many in all, at the last rung it reached."""
        reached = self.reached(number)
        if not reached:
            return Verdict.GOES_ON
        rung = max(reached)
        counted = self.counted()
        there = [trial.intermediate_values[rung] for trial in counted if rung in trial.intermediate_values]
        under_way = [trial for trial in counted if trial.state == TrialState.RUNNING]
        coming = sum(rung not in trial.intermediate_values for trial in under_way) + max(0, wanted - len(counted))
        return judge(
            reached[rung],
            there,
            coming=coming,
            halving=self._config.halving,
            least=self._config.best,
            maximizes=self._config.maximizes,
        )

    def tell(self, trial: Trial, state: TrialState, value: float | None = None) -> None:
        """Record how a trial ended."""
        self.study.tell(trial, value, state, skip_if_finished=True)

    def _ask(self) -> tuple[Trial, Owner | None]:
        """Ask for a new trial and take its folder, while a folder of our own says that we are at it."""
        asking = self._asking / temporary_name()
        asker = take(asking)
        try:
            trial = self.study.ask(self._distributions)
            return trial, take(self.run_folder(trial.number))
        finally:
            if asker is not None:
                asker.leave()
            with suppress(OSError):  # another may be looking at it; then it is swept by age
                remove_tree(asking)

    def _take_up(self, frozen: FrozenTrial, wanted: int) -> Claimed | None:
        folder = self.run_folder(frozen.number)
        if not has_owner(folder) and any(map(is_owned, self._asking.glob("*"))):
            return None  # whoever asked for it may be about to take it
        owner = take(folder)
        if owner is None:
            return None
        trial = Trial(self.study, frozen._trial_id)
        if set(frozen.params) != set(self._ranges):
            self._drop(trial, "its worker died before all values were chosen")
            return None
        return Claimed(self, trial, owner, self.values_of(frozen), wanted)

    def _drop(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr(DROPPED, reason)
        self.tell(trial, TrialState.FAIL)

    def _place_of(self, number: int) -> int:
        return sum(trial.number < number for trial in self.counted())

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _value(self, name: str, value: object) -> object:
        chosen = self._ranges[name]
        return chosen.values[int(str(value))] if chosen.kind == "choice" else value


def distribution_of(each: Range) -> BaseDistribution:
    """Describe a range to Optuna; choices by their numbers, since it stores plain values alone."""
    if each.kind == "choice":
        return CategoricalDistribution(list(range(len(each.values))))
    low, high = each.values
    log = each.kind == "log"
    if isinstance(low, int) and isinstance(high, int) and each.kind != "float":
        return IntDistribution(low, high, log=log)
    assert isinstance(low, int | float), "read_space saw to it"
    assert isinstance(high, int | float), "read_space saw to it"
    return FloatDistribution(low, high, log=log)
