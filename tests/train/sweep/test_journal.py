"""The study's journal: whole records alone, from any number of processes, whatever a death left in it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend

from train.owner import take
from train.sweep.journal import Journal

APPEND = """
import sys
from pathlib import Path
from train.sweep.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    journal.append_logs([{"worker": sys.argv[2], "number": number}, {"worker": sys.argv[2], "number": number}])
"""
HOLD = """
import os, signal, sys
from pathlib import Path
from train.owner import take
assert take(Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""
ROOT = Path(__file__).parents[3]


def test_optuna_reads_what_is_written_and_the_other_way_round(tmp_path) -> None:
    """The format is that of its own file backend."""
    path = tmp_path / "study.journal"
    ours, theirs = Journal(path), JournalFileBackend(str(path))
    ours.append_logs([{"a": 1}, {"b": [1.5, None]}])
    theirs.append_logs([{"c": "\u00e9"}])
    ours.append_logs([{"d": 4}])
    expected = [{"a": 1}, {"b": [1.5, None]}, {"c": "\u00e9"}, {"d": 4}]
    assert list(ours.read_logs(0)) == list(theirs.read_logs(0)) == list(Journal(path).read_logs(0)) == expected
    assert list(ours.read_logs(2)) == expected[2:]


@pytest.mark.parametrize("left", [b'{"half": ', b"\0" * 37, b'{"half": \n{"a": 1}\n', b"\xff\xfe\n", b"7\n"])
def test_what_a_death_left_is_cut_off_by_the_next_record(tmp_path, left) -> None:
    """Nobody reads it before, and Optuna can read the whole after."""
    path = tmp_path / "study.journal"
    journal = Journal(path)
    journal.append_logs([{"number": 1}])
    with path.open("ab") as file:
        file.write(left)
    assert list(journal.read_logs(0)) == list(Journal(path).read_logs(0)) == [{"number": 1}]
    Journal(path).append_logs([{"number": 2}])
    assert list(journal.read_logs(1)) == [{"number": 2}]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"number": 1}, {"number": 2}]


def test_many_processes_append_whole_records_in_order(tmp_path) -> None:
    """Each one's records are all there, in its order, and the pairs that it appended at once are together."""
    path, records = tmp_path / "study.journal", 20
    command = [sys.executable, "-c", APPEND, str(path)]
    workers = [subprocess.Popen([*command, str(each), str(records)], cwd=ROOT) for each in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    found = list(Journal(path).read_logs(0))
    assert found[::2] == found[1::2]
    for each in range(4):
        assert [log["number"] for log in found[::2] if log["worker"] == str(each)] == [*range(records)]


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path) -> None:
    """Optuna's own would be waited for."""
    journal = Journal(tmp_path / "study.journal")
    done = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path / "study.lock")], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    journal.append_logs([{"a": 1}])
    assert list(journal.read_logs(0)) == [{"a": 1}]
    assert len(os.listdir(tmp_path / "study.lock")) == 1, "one file, however often it was held"
    assert take(tmp_path / "study.lock") is not None
