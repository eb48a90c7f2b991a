"""What the store promises, at every operation on files that a writer does."""

import pytest


def test_a_writer_killed_at_any_operation_loses_nothing_published(torment) -> None:
    """Before and after each one: whole shards, all that was published, and the next start encodes only the rest."""
    torment("embed.store.dying", "kills")


def test_a_writer_whose_disk_fails_anywhere_says_so_and_loses_nothing(torment) -> None:
    """No space, no quota, input/output errors, stale handles, interrupts and short writes, once and for ever."""
    torment("embed.store.dying", "errors")


@pytest.mark.parametrize(("each", "again"), [("300", "60"), pytest.param("2000", "1", marks=pytest.mark.torture)])
def test_a_power_failure_loses_nothing_published(torment, each, again) -> None:
    """Unsynced data missing, zeroed, cut or garbled, unsynced names lost or out of order: as after a kill."""
    torment("embed.store.dying", "power", each, again)
