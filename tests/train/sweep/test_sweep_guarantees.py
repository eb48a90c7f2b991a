"""What a sweep promises, at every operation on files that its worker does."""

import pytest


@pytest.mark.parametrize("every", ["109", pytest.param("1", marks=pytest.mark.torture)])
def test_a_sweep_killed_at_any_operation_goes_on(torment, every) -> None:
    """Every trial comes to its end, as in an unbroken sweep, and Optuna itself can read the journal."""
    torment("train.sweep.dying", every)
