"""Ownership of a trial's folder, among real processes that are killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from train import owner as module
from train.errors import TrainError
from train.owner import SILENT_SECONDS, has_owner, own, take

HOLD = """
import sys, time
from pathlib import Path
from train.owner import take
owner = take(Path(sys.argv[1]))
print("no" if owner is None else "yes", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder():
    """Start a process that tries to own a folder; returns it with its answer. All are killed in the end."""
    with ExitStack() as started:

        def start(folder) -> tuple[subprocess.Popen, str]:
            command = [sys.executable, "-c", HOLD, str(folder)]
            process = started.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            started.callback(process.kill)
            return process, process.stdout.readline().strip()

        yield start


def test_one_living_process_owns_a_folder_and_a_dead_one_does_not(tmp_path, holder) -> None:
    """Whoever is killed with SIGKILL has left."""
    assert not has_owner(tmp_path)
    first, got = holder(tmp_path)
    assert got == "yes"
    assert take(tmp_path) is None
    _, refused = holder(tmp_path)
    assert refused == "no"
    first.send_signal(signal.SIGKILL)
    first.wait()
    with take(tmp_path) as owner:
        assert owner.is_current
        assert take(tmp_path) is None
    assert take(tmp_path) is not None  # left in order: free at once


def test_of_many_that_try_at_once_one_succeeds(tmp_path, holder) -> None:
    """Each time that the folder is free."""
    for _ in range(3):
        both = [holder(tmp_path / "trial") for _ in range(4)]
        assert sorted(got for _, got in both) == ["no", "no", "no", "yes"]
        for process, _ in both:
            process.kill()
            process.wait()


def test_an_owner_elsewhere_is_dead_when_silent(tmp_path) -> None:
    """Of another machine, its signs of life alone tell."""
    elsewhere = tmp_path / ".owner-1"
    elsewhere.write_text('{"host": "elsewhere", "boot": "x", "processes": "y", "pid": 1, "began": "1"}')
    assert take(tmp_path) is None
    silent = time.time() - SILENT_SECONDS - 5
    os.utime(elsewhere, (silent, silent))
    assert take(tmp_path) is not None


def test_half_a_record_counts_as_alive_until_it_is_silent(tmp_path) -> None:
    """Its writer may be at it."""
    half = tmp_path / ".owner-7"
    half.write_text("")
    assert take(tmp_path) is None
    silent = time.time() - SILENT_SECONDS - 5
    os.utime(half, (silent, silent))
    assert take(tmp_path) is not None
    assert (tmp_path / ".owner-8").exists()


def test_who_wants_it_for_itself_is_told_who_has_it(tmp_path, holder) -> None:
    """By process and machine; when that one is killed, it is free."""
    process, _ = holder(tmp_path)
    with pytest.raises(TrainError, match=f"in use by process {process.pid} on .*: wait for it, or name another"):
        own(tmp_path)
    process.kill()
    process.wait()
    with own(tmp_path) as owner:
        assert owner.is_current


def test_an_owner_elsewhere_is_waited_for_until_it_is_silent_or_gives_a_sign(tmp_path, monkeypatch) -> None:
    """A job that was moved to another machine goes on by itself; two that live do not train into one folder."""
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.5)
    elsewhere = tmp_path / ".owner-1"
    elsewhere.write_text('{"host": "elsewhere", "boot": "x", "processes": "y", "pid": 1, "began": "1"}')
    with own(tmp_path):
        assert not elsewhere.exists()
    elsewhere = tmp_path / ".owner-3"
    elsewhere.write_text('{"host": "elsewhere", "boot": "x", "processes": "y", "pid": 1, "began": "1"}')
    looks = iter(range(9))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: os.utime(elsewhere, (time.time() + next(looks),) * 2))
    with pytest.raises(TrainError, match="in use by process 1 on elsewhere"):
        own(tmp_path)


def test_old_owners_leave_one_file(tmp_path) -> None:
    """However often a folder was owned."""
    for _ in range(4):
        with take(tmp_path):
            pass
    assert os.listdir(tmp_path) == [".owner-4"]
