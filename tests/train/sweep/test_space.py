"""What a sweep may vary, how trials are judged at a rung, and what `[sweep]` refuses."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

from train.config import TrainConfig
from train.errors import TrainError
from train.sweep.config import SweepConfig
from train.sweep.halving import Verdict, best_so_far, judge
from train.sweep.sampler import make_sampler
from train.sweep.space import Range, read_space
from train.sweep.worker import packs_well

KNOWN = asdict(TrainConfig(run=Path("run")))


def test_every_kind_of_range_is_read() -> None:
    """Lists become the tuples of the config."""
    found = read_space(
        {
            "lr": {"log": (1e-4, 1e-2)},
            "dropout": {"float": (0, 0.5)},
            "depth": {"int": (1, 4)},
            "widths": {"choice": ([64, 32], [16])},
            "batch_size": {"log": (16, 512)},
        },
        KNOWN,
    )
    assert found == {
        "lr": Range("log", (1e-4, 1e-2)),
        "dropout": Range("float", (0.0, 0.5)),
        "depth": Range("int", (1, 4)),
        "widths": Range("choice", ((64, 32), (16,))),
        "batch_size": Range("log", (16, 512)),
    }


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "sweep.space is empty: name at least one field"),
        ({"lr": {"log": (0, 1)}}, "begins above 0"),
        ({"lr": {"log": (1.0,)}}, "is two numbers"),
        ({"lr": {"log": (1e-2, 1e-4)}}, "the first number is below the second"),
        ({"lr": {"linear": (1, 2)}}, "it has one key, choice, float, int or log"),
        ({"lr": {"log": (1e-4, 1e-2), "int": (1, 2)}}, "it has one key"),
        ({"depth": {"int": (1.5, 2)}}, "both are whole numbers; use float"),
        ({"depth": {"float": (1, 2)}}, "1.0 is no value of train.depth"),
        ({"widths": {"choice": ([64], ["a"])}}, "('a',) is no value of train.widths"),
        ({"batch_size": {"choice": (True,)}}, "True is no value of train.batch_size"),
        ({"learning": {"log": (1e-4, 1e-2)}}, "[train] has no such field; a sweep varies any of"),
        ({"split": {"choice": ("random",)}}, "compared on the same validation pairs"),
        ({"run": {"choice": ("a",)}}, "each trial has a folder of its own"),
    ],
)
def test_what_is_no_space_says_why(space, said) -> None:
    """The message names the value, the rule and the way out."""
    with pytest.raises(TrainError, match=r"sweep\.space") as error:
        read_space(space, KNOWN)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"halving": 1}, "halving is 2 or more, or 0 for none"),
        ({"best": 0}, "best is at least 1"),
        ({"first_rung": 0}, "first_rung is at least 1"),
        ({"population": 0}, 'population is 1 or more, "auto" or "off"'),
    ],
)
def test_the_section_refuses_what_cannot_run(fields, said) -> None:
    """At birth."""
    with pytest.raises(TrainError, match="sweep") as error:
        SweepConfig(folder=Path("sweep"), **fields)
    assert said in str(error.value)


def test_rungs_and_directions() -> None:
    """Rungs grow by the factor and stay below the last epoch."""
    config = SweepConfig(folder=Path("sweep"), halving=3, first_rung=4)
    assert config.rungs(40) == (4, 12, 36)
    assert config.rungs(36) == (4, 12)
    assert SweepConfig(folder=Path("sweep"), halving=0).rungs(40) == ()
    assert config.maximizes
    assert not SweepConfig(folder=Path("sweep"), objective="rmse").maximizes
    assert SweepConfig(folder=Path("sweep"), objective="rmse", direction="maximize").maximizes


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    so_far=st.integers(1, 40),
    halving=st.integers(2, 5),
    least=st.integers(1, 6),
    maximizes=st.booleans(),
)
def test_the_best_of_all_go_on_and_none_ends_or_goes_on_too_soon(values, so_far, halving, least, maximizes) -> None:
    """Counted by sorting; of equal trials at a rung's edge all go on. What is said early holds in the end."""
    how = {"halving": halving, "least": least, "maximizes": maximizes}
    edge = sorted(values, reverse=maximizes)[min(len(values), max(least, len(values) // halving)) - 1]
    for value in values:
        in_the_end = judge(value, values, coming=0, **how)
        passes = value >= edge if maximizes else value <= edge
        assert in_the_end is (Verdict.GOES_ON if passes else Verdict.ENDS)
    reached = values[:so_far]
    for value in reached:
        early = judge(value, reached, coming=len(values) - len(reached), **how)
        assert early in (Verdict.WAITS, judge(value, values, coming=0, **how))


def test_what_is_undefined_never_goes_on() -> None:
    """Not even alone."""
    assert judge(float("nan"), [float("nan")], coming=3, halving=3, least=1, maximizes=True) is Verdict.ENDS
    assert math.isnan(best_so_far([None, None], maximizes=True))
    assert best_so_far([None, 0.25, 0.5], maximizes=False) == 0.25


@pytest.mark.parametrize(
    ("population", "batch_size", "device", "kernel", "expected"),
    [
        ("auto", 128, "cpu", False, True),
        ("auto", 128, "cpu", True, False),
        ("auto", 4_096, "cpu", False, False),
        ("auto", 4_096, "cuda", False, True),
        ("off", 128, "cuda", False, False),
        (4, 4_096, "cpu", True, True),
    ],
)
def test_trials_are_packed_where_it_pays(population, batch_size, device, kernel, expected) -> None:
    """As the sweep says; else on a GPU, and on a CPU small networks that no kernel trains."""
    sweep = SweepConfig(folder=Path("sweep"), population=population)
    assert packs_well(sweep, (256, 256, 128), batch_size, torch.device(device), kernel=kernel) is expected


def test_tpe_learns_from_trials_that_wait() -> None:
    """None of the thirty has ended; what comes next lies nearer to the best of them than chance would have it."""
    study = optuna.create_study(direction="maximize", sampler=make_sampler(SweepConfig(folder=Path("sweep"))))
    space = {"dropout": FloatDistribution(0, 1)}
    drawn = []
    for _ in range(60):
        trial = study.ask(space)
        drawn.append(trial.params["dropout"])
        if trial.number < 30:
            trial.report(-abs(drawn[-1] - 0.3), 8)
    assert not any(trial.state.is_finished() for trial in study.trials)
    assert np.mean(np.abs(np.array(drawn[30:]) - 0.3)) < 0.15
