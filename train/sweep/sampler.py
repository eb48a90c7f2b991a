"""How a sweep chooses what to try: Optuna's samplers, seeded so that no two workers draw alike."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from train.sweep.config import SweepConfig


class Numbered(BaseSampler):
    """Gives every trial a sampler of its own, seeded by its number: the same whichever worker asks.

    It learns from trials that wait at a rung as from those that ended there.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._at = -1
        self._sampler = make(0)
        self._seen = optuna.create_study()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Tell which parameters are chosen together."""
        return self._of(study, trial).infer_relative_search_space(self._seen, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Choose these together."""
        return self._of(study, trial).sample_relative(self._seen, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # Optuna's own type
        """Choose one of the others."""
        return self._of(study, trial).sample_independent(self._seen, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the sampler know how a trial ended."""
        self._sampler.after_trial(study, trial, state, values)

    def _of(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._at:
            self._seen = _with_waiting_ended(study)
            mixed = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)
            self._at, self._sampler = trial.number, self._make(int(mixed[0]))
        return self._sampler


def _with_waiting_ended(study: Study) -> Study:
    """Copy the trials that ended, and as pruned those that reached a rung."""
    seen = optuna.create_study(direction=study.direction)
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished():
            seen.add_trial(trial)
        elif trial.intermediate_values:
            seen.add_trial(
                optuna.create_trial(
                    state=TrialState.PRUNED,
                    params=trial.params,
                    distributions=trial.distributions,
                    intermediate_values=trial.intermediate_values,
                )
            )
    return seen


def make_sampler(config: SweepConfig) -> BaseSampler:
    """Make the sampler that section `[sweep]` asks for."""
    if config.sampler == "sobol":  # one sequence for all workers, who count in the study how far it is
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # since Optuna 3.0
            return QMCSampler(qmc_type="sobol", scramble=True, seed=config.seed)
    samplers: Mapping[str, Callable[[int], BaseSampler]] = {
        # A trial in work is not taken for a bad one: from its first rung on its worth is known.
        "tpe": lambda seed: TPESampler(seed=seed, constant_liar=False),
        "random": lambda seed: RandomSampler(seed=seed),
    }
    return Numbered(samplers[config.sampler], config.seed)
