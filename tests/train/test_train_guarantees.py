"""What a run promises, at every operation on files that a training does, its asynchronous checkpoints included."""

import pytest


@pytest.mark.parametrize(("epochs", "every"), [("1", "3"), pytest.param("3", "1", marks=pytest.mark.torture)])
def test_a_training_killed_at_any_operation_ends_as_if_unbroken(torment, epochs, every) -> None:
    """What was saved is there, and all files of the run come out the same, byte for byte."""
    torment("train.dying", "kills", epochs, every)


@pytest.mark.parametrize("every", ["43", pytest.param("1", marks=pytest.mark.torture)])
def test_a_training_whose_disk_fails_anywhere_says_so_and_goes_on_later(torment, every) -> None:
    """No space, no quota, input/output errors, stale handles, interrupts and short writes, once and for ever."""
    torment("train.dying", "errors", every)


@pytest.mark.parametrize(("each", "resumed"), [("10", "60"), pytest.param("40", "1", marks=pytest.mark.torture)])
def test_a_power_failure_loses_no_saved_checkpoint(torment, each, resumed) -> None:
    """Nor any file of a finished run; what is left can be gone on with, to the same end."""
    torment("train.dying", "power", each, resumed)


@pytest.mark.parametrize("deaths", ["6", pytest.param("200", marks=pytest.mark.torture)])
def test_trainings_killed_at_random_end_as_if_unbroken(torment, deaths) -> None:
    """Again and again, while checkpoints are written beside the training."""
    torment("train.dying", "soak", deaths)
